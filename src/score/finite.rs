//! What is not a number is no answer: it becomes an error that says where it began and what to do.

use std::cell::RefCell;

use tch::{Kind, Tensor};

use super::{Model, Scene, Unit};
use crate::backbone::{Observation, Wanted};
use crate::torch::dtype_name;
use crate::{Error, Result};

pub(super) fn is_finite(tensor: &Tensor) -> bool {
    tensor.isfinite().all().int64_value(&[]) != 0
}

impl Model {
    /// Refuses numbers that are not finite; `what` gave them.
    pub fn finite(&self, what: &str, tensor: &Tensor) -> Result<()> {
        if is_finite(tensor) { Ok(()) } else { Err(self.not_finite(what)) }
    }

    /// The error for what gave numbers that are not finite.
    pub(crate) fn not_finite(&self, what: &str) -> Error {
        let remedy = match self.kind() {
            Kind::Half => "float16 ends at 65504: use dtype=\"float32\" or \"bfloat16\"",
            Kind::BFloat16 => {
                "use dtype=\"float32\"; if that is no better, weights of the model, or its deltas, are damaged"
            }
            _ => "its weights, or the deltas, are damaged, or the noise that was given is too large",
        };
        Error::Numerical(format!("{what} gave numbers that are not finite in {}; {remedy}", dtype_name(self.kind())))
    }
}

impl Scene<'_> {
    /// Where the numbers of an evaluation whose score is not finite began not to be.
    pub(super) fn diagnose(&self, unit: Unit) -> Error {
        match self.culprit(unit) {
            Ok(what) => self.model.not_finite(&format!("{what}, at timestep {},", self.timesteps[unit.step])),
            Err(error) => error,
        }
    }

    /// An error where a score is not finite.
    pub(super) fn check(&self, unit: Unit, score: f64) -> Result<()> {
        if score.is_finite() { Ok(()) } else { Err(self.diagnose(unit)) }
    }

    fn culprit(&self, unit: Unit) -> Result<String> {
        let inputs = self.inputs(&[unit], true)?;
        let all = vec![true; self.model.sites().len()];
        let found = RefCell::new(None);
        let keep = |site: usize, map: &Tensor| {
            if !is_finite(map) {
                found.borrow_mut().get_or_insert(site);
            }
            Tensor::new()
        };
        let wanted =
            Wanted { sites: &all, map: self.config.map, keep: &keep, digest: None, alter: None, prediction: true };
        let run = || self.model.backbone().observe(&inputs.batch(None), self.patch, &wanted);
        let Observation { prediction, .. } = tch::no_grad(run)?;
        Ok(match (found.into_inner(), prediction) {
            (Some(site), _) => format!("the attention of layer {}", self.model.sites()[site].name()),
            (None, Some(prediction)) if !is_finite(&prediction) => "the UNet's last layers".to_owned(),
            _ => "the score".to_owned(),
        })
    }
}
