use std::collections::HashMap;
use std::path::PathBuf;

use numpy::{PyArrayDyn, PyReadonlyArrayDyn};
use pyo3::prelude::*;
use serde_json::{Value, json};

use super::arrays::{Floats, to_tensor};
use super::enter::enter;
use super::scorer::Scorer;
use crate::Error;
use crate::checkpoint::TensorFile;
use crate::deltas::{self, lora};
use crate::runtime::Shared;

/// Deltas of one model, read only.
#[pyclass(frozen, module = "discffusion._core")]
pub struct Deltas(Shared<deltas::Deltas>);

impl Deltas {
    pub fn new(deltas: deltas::Deltas) -> Self {
        // SAFETY: tensors and plain data, which are only read: whoever changes deltas changes a copy.
        Deltas(unsafe { Shared::new(deltas) })
    }

    pub fn get(&self) -> &deltas::Deltas {
        &self.0
    }
}

#[pymethods]
impl Deltas {
    /// Reads a file of ours or a LoRA file, for the model of `scorer`.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf, scorer: &Scorer, strict: bool) -> PyResult<Self> {
        let model = scorer.model();
        enter(py, |_| deltas::Deltas::read(&path, model.architecture(), &|| model.fingerprint(), strict)).map(Self::new)
    }

    /// The same from named arrays, as a file would hold them.
    #[staticmethod]
    fn from_arrays(
        py: Python<'_>,
        arrays: HashMap<String, PyReadonlyArrayDyn<'_, f32>>,
        metadata: HashMap<String, String>,
        scorer: &Scorer,
        strict: bool,
    ) -> PyResult<Self> {
        let model = scorer.model();
        let tensors = arrays.iter().map(|(name, array)| (name.clone(), to_tensor(array))).collect();
        enter(py, |_| {
            let ours =
                |(name, _): (&String, &tch::Tensor)| [".delta", ".down", ".up"].iter().any(|end| name.ends_with(end));
            let file = TensorFile { tensors, metadata, checked: true };
            let (architecture, fingerprint) = (model.architecture(), || model.fingerprint());
            if !file.tensors.is_empty() && file.tensors.iter().all(ours) {
                return deltas::Deltas::from_tensors(file, architecture, &fingerprint, strict);
            }
            deltas::Deltas::from_file(file, architecture, &fingerprint, strict)
        })
        .map(Self::new)
    }

    /// Writes a file of ours; `metadata` is laid over the deltas' own.
    fn save(&self, py: Python<'_>, path: PathBuf, metadata: HashMap<String, String>) -> PyResult<()> {
        enter(py, |_| self.get().write(&path, &metadata))
    }

    /// Writes a LoRA file (`"diffusers"`) or folder (`"peft"`); gives the relative error of what it holds.
    #[pyo3(signature = (path, format, rank))]
    fn export_lora(&self, py: Python<'_>, path: PathBuf, format: &str, rank: Option<i64>) -> PyResult<f64> {
        enter(py, |_| {
            let format = match format {
                "diffusers" => lora::Format::Diffusers,
                "peft" => lora::Format::Peft,
                _ => {
                    return Err(Error::Config(format!("format is {format:?}; expected \"diffusers\" or \"peft\"")));
                }
            };
            if rank.is_some_and(|rank| rank < 1) {
                return Err(Error::Config(format!("rank is {rank:?}; expected a whole number above 0, or None")));
            }
            self.get().export(&path, format, rank)
        })
    }

    /// What they are, as a JSON object.
    #[pyo3(signature = (scorer = None))]
    fn info(&self, py: Python<'_>, scorer: Option<&Scorer>) -> PyResult<String> {
        enter(py, |_| {
            let deltas = self.get();
            let mut layers: Vec<String> = vec![];
            let mut entries = vec![];
            for (&target, delta) in &deltas.entries {
                let layer = deltas.architecture.layers[target.layer].name.clone();
                if !layers.contains(&layer) {
                    layers.push(layer.clone());
                }
                let dense = delta.dense();
                let norm = dense.norm().double_value(&[]);
                let base = scorer.map(|scorer| scorer.model().denoiser().weight(target).norm().double_value(&[]));
                let zeros = dense.eq(0.0).to_kind(tch::Kind::Float).mean(None).double_value(&[]);
                entries.push(json!({
                    "name": deltas.architecture.path(target),
                    "layer": layer,
                    "attention": target.attention.name(),
                    "projection": target.projection.name(),
                    "kind": if delta.rank().is_some() { "low_rank" } else { "dense" },
                    "shape": deltas.architecture.shape(target),
                    "rank": delta.rank(),
                    "norm": norm,
                    "relative_norm": base.map(|base| norm / base),
                    "sparsity": zeros,
                }));
            }
            let info: Value = json!({
                "rank": deltas.rank(),
                "layers": layers,
                "parameters": deltas.parameters(),
                "metadata": deltas.metadata,
                "head_weights": deltas.head_weights,
                "entries": entries,
            });
            Ok(info.to_string())
        })
    }

    /// Named float32 arrays, as a file of ours holds them.
    fn arrays<'py>(&self, py: Python<'py>) -> PyResult<HashMap<String, Bound<'py, PyArrayDyn<f32>>>> {
        let arrays: Vec<(String, Floats)> = enter(py, |_| {
            let arrays = self.get().tensors().into_iter().map(|(name, tensor)| (name, Floats::new(&tensor)));
            Ok(arrays.collect())
        })?;
        Ok(arrays.into_iter().map(|(name, array)| (name, array.into_py(py))).collect())
    }
}
