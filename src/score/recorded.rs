//! Evaluations as recorded CUDA graphs: all tensors that they read are listed, so that a replay can copy them to where
//! the graph reads them.

use tch::Tensor;

use super::ScoringContext;
use super::context::EvaluationOutput;
use super::inputs::Inputs;
use crate::Result;
use crate::config::{Heads, Method, ScoreConfig, Times, TokenSet};
use crate::kernels::graph_cache::{GraphCache, Made};

/// The most rows of a recorded batch; larger batches keep a GPU busy without a graph.
const MOST_ROWS: usize = 16;

impl ScoringContext<'_> {
    /// Whether an evaluation depends only on these inputs, the model and the configuration.
    pub(super) fn can_be_recorded(&self, inputs: &Inputs) -> bool {
        let own_patch = match (self.patch, self.model.patch()) {
            (None, None) => true,
            (Some(ours), Some(its)) => std::ptr::eq(ours, its),
            _ => false,
        };
        // These copy numbers from the CPU while they run, or weigh each row by its own time.
        let from_outside = matches!(self.config.heads, Heads::Subset(_))
            || self.config.method == Method::Calibrated
            || self.model.denoiser().reads_guidance()
            || self.model.denoiser().reads_sizes();
        inputs.rows() <= MOST_ROWS && crate::kernels::free() && own_patch && !from_outside && self.observer.is_none()
    }

    /// [`Self::run`], by a recorded graph if there is one.
    pub(super) fn recorded(
        &self,
        graphs: &GraphCache,
        inputs: &Inputs,
        weights: &[Option<Tensor>],
    ) -> Result<EvaluationOutput> {
        let mut tensors = inputs.tensors();
        tensors.extend(weights.iter().flatten().map(Tensor::shallow_clone));
        let (attention, prediction) = (inputs.layers.contains(&true), inputs.target.is_some());
        let fixed_columns = attention && self.config.tokens == TokenSet::Content && inputs.ranges.is_none();
        let work = |own: &[Tensor]| {
            let mut own = own.iter();
            let inputs = inputs.with_tensors(&mut own);
            let mut next = |_: &Tensor| own.next().expect("as many as were gathered").shallow_clone();
            let weights: Vec<Option<Tensor>> = weights.iter().map(|x| x.as_ref().map(&mut next)).collect();
            // Cached keys and values belong to one request, a graph serves many.
            let rows = self.run(&inputs, &weights, None)?;
            // A materialised map is narrowed to columns that are known on the CPU only.
            let cut = inputs.formed.get() && self.config.tokens == TokenSet::Content && !fixed_columns;
            let tensors = [rows.attention, rows.error, rows.squared].into_iter().flatten().collect();
            Ok(Made { tensors, repeatable: !cut })
        };
        // The key names everything that the work depends on except the numbers in its tensors.
        let given: Vec<bool> = weights.iter().map(Option::is_some).collect();
        let columns = fixed_columns.then(|| inputs.columns());
        let key = format!(
            "evaluation {:?} {:?} {:?} {:?} {given:?} {columns:?}",
            shared_part(self.config),
            inputs.layers,
            inputs.latent_of,
            inputs.text_of
        );
        let mut made = graphs.run(&key, &tensors, &work)?.into_iter();
        let mut of = |wanted: bool| if wanted { made.next() } else { None };
        Ok(EvaluationOutput { attention: of(attention), error: of(prediction), squared: of(prediction) })
    }
}

/// A configuration without the options that the inputs already contain.
fn shared_part(config: &ScoreConfig) -> ScoreConfig {
    ScoreConfig { times: Times::Timesteps(vec![]), seed: 0, batch_size: None, ..config.clone() }
}
