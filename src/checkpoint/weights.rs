//! Named weights from safetensors files, memory-mapped. A weight is asked for by path and shape: what is missing,
//! wrongly shaped or left over is an error that names the key.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use super::json;
use super::weight::{Pages, Weight};
use crate::torch::shim;
use crate::{Error, Result};

struct Entry {
    file: usize,
    kind: Option<Kind>,
    dtype: Dtype,
    shape: Vec<i64>,
    bytes: Range<usize>,
}

/// The weights of one network.
pub struct Weights {
    part: PathBuf,
    files: Vec<Arc<Mmap>>,
    entries: BTreeMap<String, Entry>,
    used: RefCell<BTreeSet<String>>,
    device: Device,
    kind: Kind,
}

impl Weights {
    /// Maps `part/stem[.variant].safetensors`, or the shards that its `.index.json` lists. A variant that `part` lacks
    /// falls back to the plain files.
    pub fn open(part: &Path, stem: &str, variant: Option<&str>, device: Device, kind: Kind) -> Result<Self> {
        let paths = find(part, stem, variant)?;
        let mut weights = Weights {
            part: part.to_owned(),
            files: vec![],
            entries: BTreeMap::new(),
            used: RefCell::default(),
            device,
            kind,
        };
        for path in paths {
            weights.map(&path)?;
        }
        Ok(weights)
    }

    fn map(&mut self, path: &Path) -> Result<()> {
        let fail = |why: &dyn std::fmt::Display| Error::Checkpoint(format!("{}: {why}", path.display()));
        let file = File::open(path).map_err(|why| fail(&format_args!("cannot be opened ({why})")))?;
        // SAFETY: the mapping is read-only and lives as long as the tensors over it. A file that another process
        // shortens meanwhile would fault; model files are written once.
        let mapped = unsafe { Mmap::map(&file) }.map_err(|why| match why.kind() {
            std::io::ErrorKind::OutOfMemory => {
                Error::OutOfMemory(format!("{}: there is no room for it", path.display()))
            }
            _ => fail(&format_args!("cannot be mapped ({why})")),
        })?;
        let tensors = SafeTensors::deserialize(&mapped).map_err(|why| {
            fail(&format_args!("is not a complete safetensors file ({why}); download or copy it again"))
        })?;
        for (name, view) in tensors.iter() {
            let start = view.data().as_ptr() as usize - mapped.as_ptr() as usize;
            let entry = Entry {
                file: self.files.len(),
                kind: kind_of(view.dtype()),
                dtype: view.dtype(),
                shape: view.shape().iter().map(|&n| n as i64).collect(),
                bytes: start..start + view.data().len(),
            };
            if self.entries.insert(name.to_owned(), entry).is_some() {
                return Err(fail(&format_args!("{name} is stored twice")));
            }
        }
        self.files.push(Arc::new(mapped));
        Ok(())
    }

    /// The root of the key names.
    pub fn root(&self) -> Scope<'_> {
        Scope { weights: self, prefix: String::new() }
    }

    /// Number of parameters handed out so far.
    pub fn parameters_used(&self) -> usize {
        self.used.borrow().iter().map(|name| self.entries[name].shape.iter().product::<i64>() as usize).sum()
    }

    /// Refuses left-over keys: every key must have been asked for, or match `known`, which says what is left aside.
    pub fn finish(&self, known: impl Fn(&str) -> bool) -> Result<()> {
        let used = self.used.borrow();
        let left: Vec<&str> =
            self.entries.keys().map(String::as_str).filter(|name| !used.contains(*name) && !known(name)).collect();
        if left.is_empty() {
            return Ok(());
        }
        let shown = left[..left.len().min(3)].join(", ");
        Err(Error::Checkpoint(format!(
            "{}: {} weight(s) belong to no layer that the configuration describes: {shown}{}",
            self.part.display(),
            left.len(),
            if left.len() > 3 { ", …" } else { "" }
        )))
    }

    fn load(&self, name: &str, shape: &[i64]) -> Result<Weight> {
        let fail = |what: String| Error::Checkpoint(format!("{}: {what}", self.part.display()));
        let entry = self.entries.get(name).ok_or_else(|| fail(format!("weight {name} {shape:?} is missing")))?;
        if entry.shape != shape {
            return Err(fail(format!("weight {name} has the shape {:?}, expected {shape:?}", entry.shape)));
        }
        let kind = entry
            .kind
            .ok_or_else(|| fail(format!("weight {name} is of type {:?}; expected F32, F16 or BF16", entry.dtype)))?;
        self.used.borrow_mut().insert(name.to_owned());
        let file = &self.files[entry.file];
        let bytes = &file[entry.bytes.clone()];
        let aligned = (bytes.as_ptr() as usize).is_multiple_of(kind.elt_size_in_bytes());
        let stored = if aligned {
            shim::borrow(bytes, shape, kind, Arc::clone(file))?
        } else {
            Tensor::f_from_data_size(bytes, shape, kind).map_err(|why| crate::torch::from_tch(&why))?
        };
        Weight::new(stored, Pages::new(file, entry.bytes.clone()), self.device, self.kind)
    }
}

/// libtorch's type of a stored tensor, if it is one of the floats that weights come in.
pub(super) fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}

fn find(part: &Path, stem: &str, variant: Option<&str>) -> Result<Vec<PathBuf>> {
    let named = |variant: Option<&str>| match variant {
        Some(variant) => format!("{stem}.{variant}.safetensors"),
        None => format!("{stem}.safetensors"),
    };
    let mut tried = vec![];
    // A part that has only one of the plain and the fp16 file is complete, whichever was asked for.
    let other = if variant.is_none() { Some("fp16") } else { None };
    for variant in [variant, other] {
        let single = part.join(named(variant));
        if single.is_file() {
            return Ok(vec![single]);
        }
        // The variant comes after the index's own name: `model.safetensors.index.fp16.json`.
        let index = part.join(match variant {
            Some(variant) => format!("{stem}.safetensors.index.{variant}.json"),
            None => format!("{stem}.safetensors.index.json"),
        });
        if index.is_file() {
            return shards(part, &index);
        }
        tried.push(named(variant));
    }
    Err(Error::Checkpoint(format!(
        "{}: no weights found; looked for {} (or a .safetensors.index.json). Pickled .bin files are not read: convert \
         them to safetensors",
        part.display(),
        tried.join(", ")
    )))
}

fn shards(part: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let map: BTreeMap<String, String> = json::read(index)?.required("weight_map")?;
    let names: BTreeSet<&String> = map.values().collect();
    for name in &names {
        // The index must not lead out of its folder.
        if Path::new(name.as_str()).components().count() != 1 || name.starts_with("..") {
            return Err(Error::Checkpoint(format!("{}: {name:?} is not a plain file name", index.display())));
        }
    }
    Ok(names.into_iter().map(|name| part.join(name)).collect())
}

/// A place in the tree of key names; `scope / "conv_in"` goes one level down.
#[derive(Clone)]
pub struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl Scope<'_> {
    /// The weight `name` below this place, of exactly this shape, on the device and in the data type of the part.
    pub fn get(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        Ok(self.weight(name, shape)?.plain().shallow_clone())
    }

    /// The same, for a layer that keeps it in a layout of its own.
    pub fn weight(&self, name: &str, shape: &[i64]) -> Result<Weight> {
        self.weights.load(&self.key(name), shape)
    }

    /// Whether there is a weight `name` below this place.
    pub fn has(&self, name: &str) -> bool {
        self.weights.entries.contains_key(&self.key(name))
    }

    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }
}

impl<'a, S: std::fmt::Display> std::ops::Div<S> for &Scope<'a> {
    type Output = Scope<'a>;

    fn div(self, name: S) -> Scope<'a> {
        Scope { weights: self.weights, prefix: self.key(&name.to_string()) }
    }
}
