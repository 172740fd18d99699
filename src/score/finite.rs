//! A score that is not finite becomes an error that names the first layer with such numbers and suggests a remedy.

use std::cell::RefCell;

use tch::Tensor;

use super::{Evaluation, ScoringContext};
use crate::denoiser::{Capture, Captured};
use crate::model::is_finite;
use crate::{Error, Result};

impl ScoringContext<'_> {
    /// The error for an evaluation whose score is not finite; repeats it to find where that starts.
    pub(super) fn diagnose(&self, evaluation: Evaluation) -> Error {
        match self.culprit(evaluation) {
            Ok(what) => self.model.not_finite(&format!("{what}, at timestep {},", self.encoded.times[evaluation.step])),
            Err(error) => error,
        }
    }

    /// Refuses a score that is not finite.
    pub(super) fn check(&self, evaluation: Evaluation, score: f64) -> Result<()> {
        if score.is_finite() { Ok(()) } else { Err(self.diagnose(evaluation)) }
    }

    /// The first part of the network that computes a number which is not finite.
    fn culprit(&self, evaluation: Evaluation) -> Result<String> {
        let inputs = self.inputs(&[evaluation], true);
        let all = vec![true; self.model.layers().len()];
        let found = RefCell::new(None);
        let keep = |layer: usize, map: &Tensor| {
            if !is_finite(map) {
                found.borrow_mut().get_or_insert(layer);
            }
            Tensor::new()
        };
        let capture = Capture { prediction: true, ..Capture::maps(&all, self.config.map, &keep) };
        let run = || self.model.denoiser().observe(&inputs.batch(None), self.patch, &capture);
        let Captured { prediction, .. } = tch::no_grad(run)?;
        Ok(match (found.into_inner(), prediction) {
            (Some(layer), _) => format!("the attention of layer {}", self.model.layers()[layer].name),
            (None, Some(prediction)) if !is_finite(&prediction) => "the denoiser's last layers".to_owned(),
            _ => "the score".to_owned(),
        })
    }
}
