//! Scores of pairs, batch by batch, with batches as large as memory allows.

use std::collections::HashMap;

use super::context::{EvaluationOutput, ScoringContext};
use super::plan::{Evaluation, EvaluationPlan};
use crate::Result;
use crate::device::PendingTensor;
use crate::model::{Batches, Event};

impl ScoringContext<'_> {
    /// The scores of pairs of images and texts at some times, `[pairs][steps]`; `steps` are indices into the times.
    ///
    /// # Errors
    /// `Numerical` if a score is not finite; `OutOfMemory`; `Interrupted`.
    pub fn score(
        &self,
        pairs: &[(usize, usize)],
        steps: &[usize],
        on_progress: impl FnMut(Event) -> Result<()>,
    ) -> Result<Vec<Vec<f64>>> {
        let (mut priors, null_pairs) = self.known_priors(pairs.iter().map(|&(_, text)| text), steps);
        let mut scores = self.without_prior(&[pairs, &null_pairs].concat(), steps, on_progress)?;
        self.add_priors(&mut priors, &null_pairs, &scores.split_off(pairs.len()), steps);
        for (&(_, text), scores) in pairs.iter().zip(&mut scores) {
            let prior = priors.get(&text).into_iter().flatten();
            scores.iter_mut().zip(prior).for_each(|(score, prior)| *score -= self.config.prior_weight * prior);
        }
        Ok(scores)
    }

    /// The scores of [`Self::score`] from which no prior is subtracted.
    pub(super) fn without_prior(
        &self,
        pairs: &[(usize, usize)],
        steps: &[usize],
        on_progress: impl FnMut(Event) -> Result<()>,
    ) -> Result<Vec<Vec<f64>>> {
        let (coefficients, no_text) = (self.coefficients(), self.encoded.no_text);
        let plan = EvaluationPlan::new(pairs, steps, coefficients.needs_empty().then_some(no_text));
        let pixels = self.encoded.latents.size()[2..].iter().product();
        let size = self.config.batch_size.unwrap_or_else(|| self.model.auto_batch(pixels));
        let mut values: HashMap<Evaluation, Value> = HashMap::with_capacity(plan.evaluations.len());
        let mut batches = Batches::new(self.model, size, pixels, plan.evaluations.len(), on_progress);
        let mut read = |(evaluations, pending): (Vec<Evaluation>, PendingOutput)| {
            let of_batch = pending.read(evaluations.len());
            values.extend(evaluations.into_iter().zip(of_batch));
        };
        // A batch is read after the next one is started, so that a GPU is never idle meanwhile.
        let mut last: Option<(Vec<Evaluation>, PendingOutput)> = None;
        for part in plan.parts() {
            batches.run(part, |evaluations| {
                let output = self.evaluate(evaluations, coefficients.needs_prediction())?;
                last.replace((evaluations.to_vec(), PendingOutput::new(&output))).map(&mut read);
                Ok(())
            })?;
        }
        last.map(&mut read);
        let score = |&(image, text): &(usize, usize), step: usize| {
            let at = Evaluation { image, text, step };
            let value = values[&at];
            let empty = values.get(&Evaluation { image, text: no_text, step }).map_or(0.0, |value| value.error);
            let score = coefficients.score(value.attention, value.error, empty);
            self.check(at, score).map(|()| score)
        };
        pairs.iter().map(|pair| steps.iter().map(|&step| score(pair, step)).collect()).collect()
    }
}

/// The numbers of one evaluation.
#[derive(Clone, Copy)]
struct Value {
    attention: f64,
    error: f64,
}

/// The numbers of a batch that a GPU may still be computing.
struct PendingOutput {
    attention: Option<PendingTensor>,
    error: Option<PendingTensor>,
}

impl PendingOutput {
    fn new(output: &EvaluationOutput) -> Self {
        let [attention, error] =
            [&output.attention, &output.error].map(|tensor| tensor.as_ref().map(PendingTensor::new));
        PendingOutput { attention, error }
    }

    fn read(self, count: usize) -> impl Iterator<Item = Value> {
        let [attention, error] =
            [self.attention, self.error].map(|numbers| numbers.map_or_else(|| vec![0.0; count], PendingTensor::read));
        attention.into_iter().zip(error).map(|(attention, error)| Value { attention, error })
    }
}
