//! Files of deltas: the native format, and LoRA in other libraries' layouts.
//!
//! The native format is one safetensors file. Tensors are `<module path>.delta` `[out, in]`, or `.down` `[r, in]` and
//! `.up` `[out, r]`, float32. The metadata has `discffusion.format` (`1`), `discffusion.fingerprint` and
//! `discffusion.head_weights` (JSON), a checksum, and further entries of the writer.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use tch::Tensor;

use super::{Architecture, Delta, Deltas, Fingerprint, Target, lora};
use crate::checkpoint::{TensorFile, write_atomically};
use crate::runtime::check_interrupt;
use crate::{Error, Result};

/// Computes the fingerprint of the model that deltas are read for.
type Model<'a> = &'a dyn Fn() -> Result<Fingerprint>;

const FORMAT: &str = "discffusion.format";
const FINGERPRINT: &str = "discffusion.fingerprint";
const HEAD_WEIGHTS: &str = "discffusion.head_weights";
const VERSION: &str = "1";

impl Deltas {
    /// Reads a file in the native format or a LoRA file, for a model of this architecture. `model` computes the model's
    /// fingerprint, if the file has one to compare it with.
    ///
    /// `strict` also refuses deltas that were made for other weights of the same architecture.
    ///
    /// # Errors
    /// `Deltas`, naming the file and what is wrong with it.
    pub fn read(path: &Path, architecture: &Architecture, model: Model, strict: bool) -> Result<Self> {
        let named = |what: &dyn std::fmt::Display| Error::Deltas(format!("{}: {what}", path.display()));
        // peft saves a folder.
        let path = &if path.is_dir() { path.join("adapter_model.safetensors") } else { path.to_owned() };
        let mut file = TensorFile::read(path).map_err(|what| named(&what))?;
        add_adapter_config(path, &mut file.metadata);
        Self::from_file(file, architecture, model, strict).map_err(|error| named(&error))
    }

    /// [`Self::read`] from the contents of a file.
    ///
    /// # Errors
    /// `Deltas`, without the name of a file; `Checkpoint` if `model` fails.
    pub fn from_file(file: TensorFile, architecture: &Architecture, model: Model, strict: bool) -> Result<Self> {
        let Some(version) = file.metadata.get(FORMAT) else {
            return from_lora(file, architecture);
        };
        if version != VERSION {
            return Err(Error::Deltas(format!(
                "has the format version {version:?}; this release reads {VERSION:?}, use a newer one"
            )));
        }
        if !file.checked {
            return Err(Error::Deltas("is damaged: its checksum is missing".into()));
        }
        Self::from_tensors(file, architecture, model, strict)
    }

    /// Deltas from tensors with the names of the native format. Without a fingerprint in the metadata, the weights that
    /// they were made for are not checked.
    ///
    /// # Errors
    /// As [`Self::from_file`].
    pub fn from_tensors(file: TensorFile, architecture: &Architecture, model: Model, strict: bool) -> Result<Self> {
        let broken = |what: &str, why| Error::Deltas(format!("has a malformed {what} in its metadata ({why})"));
        let fingerprint: Option<Fingerprint> = (file.metadata.get(FINGERPRINT))
            .map(|text| serde_json::from_str(text).map_err(|why| broken("fingerprint", why)))
            .transpose()?;
        let head_weights = (file.metadata.get(HEAD_WEIGHTS))
            .map(|text| serde_json::from_str(text).map_err(|why| broken("table of head weights", why)))
            .transpose()?;
        // Checked before the keys, since its messages explain a mismatch better.
        if let Some(made_for) = &fingerprint {
            check_fits(made_for, architecture, model, strict)?;
        }
        let mut metadata = file.metadata;
        metadata.retain(|key, _| ![FORMAT, FINGERPRINT, HEAD_WEIGHTS].contains(&key.as_str()));
        let entries = entries(file.tensors, architecture)?;
        let deltas = Deltas { architecture: architecture.clone(), entries, head_weights, metadata, fingerprint };
        deltas.check_head_weights()?;
        Ok(deltas)
    }

    fn to_file(&self) -> TensorFile {
        let mut metadata = self.metadata.clone();
        metadata.insert(FORMAT.into(), VERSION.into());
        let json = |value| serde_json::to_string(value).expect("plain data");
        if let Some(fingerprint) = &self.fingerprint {
            metadata.insert(FINGERPRINT.into(), json(fingerprint));
        }
        if let Some(weights) = &self.head_weights {
            metadata.insert(HEAD_WEIGHTS.into(), serde_json::to_string(weights).expect("plain data"));
        }
        TensorFile { tensors: self.tensors(), metadata, checked: true }
    }

    /// Writes the native format, atomically. `metadata` is added to the deltas' own and replaces entries of the same
    /// key.
    ///
    /// # Errors
    /// `Deltas` if the file cannot be written.
    pub fn write(&self, path: &Path, metadata: &HashMap<String, String>) -> Result<()> {
        let mut file = self.to_file();
        file.metadata.extend(metadata.clone());
        file.write(path).map_err(|why| cannot_write(path, why))
    }

    /// Writes LoRA: one file (diffusers), or a folder with weights and configuration (peft). Deltas are approximated
    /// with rank `rank`; if it is `None`, low-rank ones are written as they are and dense ones are factored exactly.
    ///
    /// Returns the relative error `‖p − p'‖ / ‖p‖` over all entries.
    ///
    /// # Errors
    /// `Deltas` if a file cannot be written; `Interrupted`.
    pub fn export(&self, path: &Path, format: lora::Format, rank: Option<i64>) -> Result<f64> {
        let (mut lost, mut all) = (0.0, 0.0);
        let mut pairs = BTreeMap::new();
        for (&target, delta) in &self.entries {
            check_interrupt()?;
            let dense = delta.dense();
            let norm = dense.norm().double_value(&[]);
            let (pair, error) = match delta {
                Delta::LowRank { down, up } if rank.is_none_or(|rank| rank >= down.size()[0]) => {
                    ((down.shallow_clone(), up.shallow_clone()), 0.0)
                }
                _ => {
                    let (down, up, error) = lora::factor(&dense, rank)?;
                    ((down, up), error)
                }
            };
            lost += (error * norm).powi(2);
            all += norm * norm;
            pairs.insert(self.architecture.path(target).to_owned(), pair);
        }
        let config = match format {
            lora::Format::Diffusers => None,
            lora::Format::Peft => Some(lora::peft_config(&pairs)),
        };
        let (tensors, metadata) = lora::write(&pairs, format, self.architecture.network);
        let file = TensorFile { tensors: tensors.into_iter().collect(), metadata, checked: true };
        match config {
            None => file.write(path),
            Some(config) => std::fs::create_dir_all(path)
                .and_then(|()| write_atomically(&path.join("adapter_config.json"), config.to_string().as_bytes()))
                .and_then(|()| file.write(&path.join("adapter_model.safetensors"))),
        }
        .map_err(|why| cannot_write(path, why))?;
        Ok(if all > 0.0 { (lost / all).sqrt() } else { 0.0 })
    }

    fn check_head_weights(&self) -> Result<()> {
        for (name, weights) in self.head_weights.iter().flatten() {
            let layer = self.architecture.layers.iter().find(|layer| layer.name == *name);
            let fits = layer.is_some_and(|layer| layer.heads as usize == weights.len());
            if !fits || weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0) {
                return Err(Error::Deltas(format!("has head weights for {name} that do not fit this model's layer")));
            }
        }
        Ok(())
    }
}

fn cannot_write(path: &Path, why: std::io::Error) -> Error {
    Error::Deltas(format!("{}: cannot be written ({why})", path.display()))
}

/// peft keeps rank and alpha in a file beside the weights.
fn add_adapter_config(path: &Path, metadata: &mut HashMap<String, String>) {
    let beside = path.with_file_name("adapter_config.json");
    if let Ok(text) = std::fs::read_to_string(beside) {
        metadata.entry(lora::PEFT_CONFIG.into()).or_insert(text);
    }
}

fn check_fits(made_for: &Fingerprint, architecture: &Architecture, model: Model, strict: bool) -> Result<()> {
    if made_for.architecture != architecture.describe() {
        return Err(Error::Deltas(format!(
            "was made for another architecture ({}); this model's is {}",
            made_for.architecture,
            architecture.describe()
        )));
    }
    // Without `strict` there is nothing to compare, and no weight needs to be read.
    let difference = if strict { made_for.difference(&model()?) } else { None };
    match difference {
        None => Ok(()),
        Some(what) => Err(Error::Deltas(format!(
            "was made for other weights of this architecture ({what} differs); load the model it was trained on, or pass \
             strict=False to use it all the same"
        ))),
    }
}

fn entries(tensors: BTreeMap<String, Tensor>, architecture: &Architecture) -> Result<BTreeMap<Target, Delta>> {
    let mut halves: BTreeMap<Target, (Option<Tensor>, Option<Tensor>)> = BTreeMap::new();
    let mut entries = BTreeMap::new();
    for (name, tensor) in tensors {
        let found = name.rsplit_once('.').and_then(|(path, part)| Some((architecture.find(path)?, part)));
        match found {
            Some((target, "delta")) => {
                entries.insert(target, checked(Delta::Dense(tensor), target, architecture)?);
            }
            Some((target, "down")) => halves.entry(target).or_default().0 = Some(tensor),
            Some((target, "up")) => halves.entry(target).or_default().1 = Some(tensor),
            _ => {
                return Err(Error::Deltas(format!("holds {name}, which is no attention projection of this model")));
            }
        }
    }
    for (target, pair) in halves {
        let path = architecture.path(target);
        let (Some(down), Some(up)) = pair else {
            return Err(Error::Deltas(format!("holds only one of {path}.down and {path}.up")));
        };
        if entries.insert(target, checked(Delta::LowRank { down, up }, target, architecture)?).is_some() {
            return Err(Error::Deltas(format!("holds {path} both dense and of low rank")));
        }
    }
    if entries.is_empty() {
        return Err(Error::Deltas("holds no deltas".into()));
    }
    Ok(entries)
}

fn from_lora(file: TensorFile, architecture: &Architecture) -> Result<Deltas> {
    let mut entries = BTreeMap::new();
    for (path, (down, up)) in lora::read(file.tensors.into_iter().collect(), &file.metadata)? {
        let target = architecture.find(&path).ok_or_else(|| {
            Error::Deltas(format!(
                "holds LoRA weights for {path}, which this model does not have: another architecture"
            ))
        })?;
        entries.insert(target, checked(Delta::LowRank { down, up }, target, architecture)?);
    }
    if entries.is_empty() {
        return Err(Error::Deltas("holds no LoRA weights".into()));
    }
    Ok(Deltas {
        architecture: architecture.clone(),
        entries,
        head_weights: None,
        // The metadata of LoRA files holds their scale, which is multiplied into the numbers.
        metadata: HashMap::new(),
        fingerprint: None,
    })
}

/// The delta, if its shape is the target's and its numbers are finite.
fn checked(delta: Delta, target: Target, architecture: &Architecture) -> Result<Delta> {
    let [outputs, inputs] = architecture.shape(target);
    let path = architecture.path(target);
    let fits = match &delta {
        Delta::Dense(dense) => dense.size() == [outputs, inputs],
        Delta::LowRank { down, up } => match (down.size().as_slice(), up.size().as_slice()) {
            ([rank, down], [up, same]) => rank == same && *rank > 0 && *down == inputs && *up == outputs,
            _ => false,
        },
    };
    if !fits {
        let found: Vec<String> =
            delta.tensors().iter().map(|(name, tensor)| format!("{name} {:?}", tensor.size())).collect();
        return Err(Error::Deltas(format!(
            "holds {path} as {}; this model's weight is [{outputs}, {inputs}]: another architecture",
            found.join(" and ")
        )));
    }
    if delta.tensors().iter().any(|(_, tensor)| tensor.isfinite().all().int64_value(&[]) == 0) {
        return Err(Error::Deltas(format!("holds {path} with numbers that are not finite")));
    }
    Ok(delta)
}
