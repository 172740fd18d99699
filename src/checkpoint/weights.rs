//! Named weights of a network. A weight is requested by path and shape; a missing, wrongly shaped or unused weight is
//! an error that names the key.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::part::{Part, kind_of};
use super::weight::{Location, Weight};
use crate::{Error, Result};

/// The weights of one network.
pub struct Weights {
    part: Arc<Part>,
    used: RefCell<BTreeSet<String>>,
    device: Device,
    kind: Kind,
    lazy: bool,
}

impl Weights {
    /// The weights in the files that [`Part::open`] finds.
    ///
    /// # Errors
    /// As of [`Part::open`].
    pub fn open(part: &Path, stem: &str, variant: Option<&str>, device: Device, kind: Kind) -> Result<Self> {
        Ok(Weights::new(Arc::new(Part::open(part, stem, variant)?), device, kind, true))
    }

    /// The weights in open files. If `lazy`, weights on the CPU are read at first use.
    pub fn new(part: Arc<Part>, device: Device, kind: Kind, lazy: bool) -> Self {
        Weights { part, used: RefCell::default(), device, kind, lazy }
    }

    /// The root of the tree of key names.
    pub fn root(&self) -> Scope<'_> {
        Scope { weights: self, prefix: String::new() }
    }

    /// Number of parameters in the weights that were requested so far.
    pub fn parameters_used(&self) -> usize {
        self.used.borrow().iter().map(|name| self.part.entries[name].numel() as usize).sum()
    }

    /// Refuses unused keys: every key must have been requested or match `known`, which says which keys may be ignored.
    ///
    /// # Errors
    /// `Checkpoint`, naming the first unused keys.
    pub fn finish(&self, known: impl Fn(&str) -> bool) -> Result<()> {
        let used = self.used.borrow();
        let left: Vec<&str> =
            self.part.entries.keys().map(String::as_str).filter(|name| !used.contains(*name) && !known(name)).collect();
        if left.is_empty() {
            return Ok(());
        }
        let shown = left[..left.len().min(3)].join(", ");
        Err(Error::Checkpoint(format!(
            "{}: {} weight(s) belong to no layer that the configuration describes: {shown}{}",
            self.part.dir().display(),
            left.len(),
            if left.len() > 3 { ", …" } else { "" }
        )))
    }

    fn load(&self, name: &str, shape: &[i64]) -> Result<Weight> {
        let fail = |what: String| Error::Checkpoint(format!("{}: {what}", self.part.dir().display()));
        let entry = self.part.entries.get(name).ok_or_else(|| fail(format!("weight {name} {shape:?} is missing")))?;
        if entry.shape != shape {
            return Err(fail(format!("weight {name} has the shape {:?}, expected {shape:?}", entry.shape)));
        }
        let kind = kind_of(entry.dtype)
            .ok_or_else(|| fail(format!("weight {name} is of type {:?}; expected F32, F16 or BF16", entry.dtype)))?;
        self.used.borrow_mut().insert(name.to_owned());
        let file = Arc::clone(&self.part.files[entry.file]);
        let location = Location { file, start: entry.start, shape: entry.shape.clone(), kind };
        Weight::new(location, self.device, self.kind, self.lazy)
    }
}

/// A place in the tree of key names; `scope / "conv_in"` goes one level down.
#[derive(Clone)]
pub struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl Scope<'_> {
    /// The weight `name` below this place, of exactly this shape, on the device and in the data type of the network.
    ///
    /// # Errors
    /// `Checkpoint` if it is missing, has another shape or type, or cannot be read.
    pub fn get(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.weight(name, shape)?.into_plain()
    }

    /// [`Self::get`] for a layer that keeps the weight in a layout of its own.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn weight(&self, name: &str, shape: &[i64]) -> Result<Weight> {
        self.weights.load(&self.key(name), shape)
    }

    /// Whether there is a weight `name` below this place.
    pub fn has(&self, name: &str) -> bool {
        self.weights.part.entries.contains_key(&self.key(name))
    }

    /// The full key of `name` below this place.
    pub fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }
}

impl<'a, S: std::fmt::Display> std::ops::Div<S> for &Scope<'a> {
    type Output = Scope<'a>;

    fn div(self, name: S) -> Scope<'a> {
        Scope { weights: self.weights, prefix: self.key(&name.to_string()) }
    }
}
