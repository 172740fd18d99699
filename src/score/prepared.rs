//! An encoded request whose pairs can be scored in several calls.

use super::{Encoded, Event, ScoringContext};
use crate::Result;
use crate::config::ScoreConfig;
use crate::model::Model;
use crate::runtime::Shared;

/// The encoded images and texts of a request with its noise and configuration. It shares the model's weights.
pub struct Prepared {
    model: Model,
    config: ScoreConfig,
    encoded: Shared<Encoded>,
}

impl Prepared {
    pub(super) fn new(model: Model, config: ScoreConfig, encoded: Encoded) -> Self {
        // SAFETY: it holds plain data, a cache behind a lock, and tensors that are only read.
        Prepared { model, config, encoded: unsafe { Shared::new(encoded) } }
    }

    /// Scores of pairs at some of the times, `[pairs][steps]`; `steps` are indices into the times. See
    /// [`Model::score_pairs`].
    ///
    /// # Errors
    /// `Numerical` if a score is not finite; `OutOfMemory`; `Interrupted`.
    pub fn score(
        &self,
        pairs: &[(usize, usize)],
        steps: &[usize],
        on_progress: impl FnMut(Event) -> Result<()>,
    ) -> Result<Vec<Vec<f64>>> {
        ScoringContext::new(&self.model, &self.config, &self.encoded).score(pairs, steps, on_progress)
    }

    /// The numbers of images, texts and times.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.encoded.images(), self.encoded.no_text, self.encoded.times.len())
    }
}
