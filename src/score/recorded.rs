//! Evaluations as recorded work: everything that they read is gathered, so that it can be put where the record reads it.

use tch::Tensor;

use super::ScoringContext;
use super::context::EvaluationOutput;
use super::inputs::Inputs;
use crate::Result;
use crate::config::{Heads, ScoreConfig, Times, TokenSet};
use crate::kernels::graph_cache::{GraphCache, Made};

/// Most rows that are recorded: with more of them a GPU is kept busy anyway.
const MOST_ROWS: usize = 16;

impl ScoringContext<'_> {
    /// Whether the evaluation of these inputs depends on nothing but them, the model and the configuration.
    pub(super) fn can_be_recorded(&self, inputs: &Inputs) -> bool {
        let own_patch = match (self.patch, self.model.patch()) {
            (None, None) => true,
            (Some(ours), Some(its)) => std::ptr::eq(ours, its),
            _ => false,
        };
        // These bring numbers from the CPU while they run.
        let from_outside = matches!(self.config.heads, Heads::Subset(_))
            || self.model.denoiser().reads_guidance()
            || self.model.denoiser().reads_sizes();
        inputs.rows() <= MOST_ROWS && crate::kernels::free() && own_patch && !from_outside && self.observer.is_none()
    }

    /// [`Self::run`], by a record where there is one.
    pub(super) fn recorded(
        &self,
        graphs: &GraphCache,
        inputs: &Inputs,
        weights: &[Option<Tensor>],
    ) -> Result<EvaluationOutput> {
        let mut tensors = vec![];
        inputs.map(&mut |x| {
            tensors.push(x.shallow_clone());
            x.shallow_clone()
        });
        tensors.extend(weights.iter().flatten().map(Tensor::shallow_clone));
        let (attention, prediction) = (inputs.layers.contains(&true), inputs.target.is_some());
        let by_hand = attention && self.config.tokens == TokenSet::Content && inputs.ranges.is_none();
        let work = |own: &[Tensor]| {
            let mut own = own.iter();
            let mut next = |_: &Tensor| own.next().expect("as many as were gathered").shallow_clone();
            let inputs = inputs.map(&mut next);
            let weights: Vec<Option<Tensor>> = weights.iter().map(|x| x.as_ref().map(&mut next)).collect();
            // Keys and values of a request's texts belong to the request.
            let rows = self.run(&inputs, &weights, None)?;
            // Maps that are formed are cut by numbers that lie on the CPU.
            let cut = inputs.formed.get() && self.config.tokens == TokenSet::Content && !by_hand;
            let tensors = [rows.attention, rows.error, rows.squared].into_iter().flatten().collect();
            Ok(Made { tensors, repeatable: !cut })
        };
        // Beside what it reads, all that the work depends on.
        let given: Vec<bool> = weights.iter().map(Option::is_some).collect();
        let columns = by_hand.then(|| inputs.columns());
        let what = format!(
            "evaluation {:?} {:?} {:?} {:?} {given:?} {columns:?}",
            shared_part(self.config),
            inputs.layers,
            inputs.latent_of,
            inputs.text_of
        );
        let mut made = graphs.run(&what, &tensors, &work)?.into_iter();
        let mut of = |wanted: bool| if wanted { made.next() } else { None };
        Ok(EvaluationOutput { attention: of(attention), error: of(prediction), squared: of(prediction) })
    }
}

/// A configuration without what the inputs tell.
fn shared_part(config: &ScoreConfig) -> ScoreConfig {
    ScoreConfig { times: Times::Timesteps(vec![]), seed: 0, batch_size: None, ..config.clone() }
}
