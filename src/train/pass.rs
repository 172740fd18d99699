//! One batch through the network: scores, loss, and the gradient of the deltas. Only rows with a gradient are
//! backpropagated.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;

use tch::{Kind, Tensor};

use super::group::ItemGroup;
use super::totals::Totals;
use crate::Result;
use crate::config::{Loss, TrainConfig};
use crate::device::to_vec64;
use crate::score::{Evaluation, EvaluationOutput, SavedEvaluation, ScoringContext};

/// How gradients are computed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum GradientMode {
    /// Not at all: only the scores are wanted.
    None,
    /// From the graph of the forward pass.
    Kept,
    /// A first pass without a graph finds the rows with a gradient, a second pass runs only those with a graph.
    OnlyNeeded,
    /// Block by block, from the hidden states that the forward pass saves.
    Blockwise,
}

/// The numbers of one evaluation (a row), or the gradients of the loss with respect to them.
#[derive(Clone, Copy, Default)]
pub struct RowValues {
    pub attention: f64,
    pub error: f64,
    pub squared: f64,
}

/// The forward and backward pass of a batch, or of a part of it.
pub struct TrainingPass<'a> {
    pub context: &'a ScoringContext<'a>,
    pub options: &'a TrainConfig,
    pub groups: &'a [ItemGroup],
    /// The position of the first group in the batch.
    pub first: usize,
    /// The null images, as indices of the context's latents; empty without a prior.
    pub nulls: Range<usize>,
    /// The divisor of scores.
    pub temperature: f64,
    /// For each time of the context, a factor of the divisor.
    pub factors: Vec<f64>,
    /// The factor of the gradient.
    pub scale: f64,
    /// Number of evaluations at a time.
    pub batch: usize,
    /// Whether rows that run a second time are recomputed block by block.
    pub recompute: bool,
    /// Set to the evaluations of the running chunk, for the context's observer.
    pub running: &'a RefCell<Vec<Evaluation>>,
}

impl TrainingPass<'_> {
    /// Runs the batch; gradients are added to the leaves of the context's patch.
    ///
    /// # Errors
    /// `Training` if a score or the loss is not finite; `OutOfMemory`; `Interrupted`.
    pub fn run(&self, graph: GradientMode) -> Result<Totals> {
        let evaluations = self.evaluations();
        let chunks: Vec<&[Evaluation]> = self.chunks(&evaluations);
        let mut rows = Vec::with_capacity(evaluations.len());
        let mut graphs: Vec<Option<Tape>> = vec![];
        for chunk in &chunks {
            self.running.replace(chunk.to_vec());
            let (seen, tape) = self.forward(chunk, graph)?;
            rows.extend(numbers(&seen, chunk.len()));
            graphs.push(tape);
        }
        self.running.take();

        let mut totals = Totals { rows: evaluations.len(), ..Totals::default() };
        let gradients = self.row_gradients(&evaluations, &rows, &mut totals)?;
        if graph == GradientMode::None {
            return Ok(totals);
        }
        let mut start = 0;
        for (chunk, tape) in chunks.iter().zip(graphs) {
            let gradients = &gradients[start..start + chunk.len()];
            start += chunk.len();
            let needed: Vec<usize> = (0..chunk.len()).filter(|&i| gradients[i].needed()).collect();
            totals.needed_rows += needed.len();
            if needed.is_empty() {
                continue;
            }
            match tape {
                Some(Tape::Graph(rows)) => {
                    totals.backward_rows += chunk.len();
                    totals.reached |= backpropagate(|| self.objective(&rows, gradients));
                }
                Some(Tape::Saved(kept)) => {
                    totals.backward_rows += chunk.len();
                    totals.reached = true;
                    tch::with_grad(|| self.context.backward(*kept, |rows| self.objective(rows, gradients)))?;
                }
                None => {
                    totals.backward_rows += needed.len();
                    let evaluations: Vec<Evaluation> = needed.iter().map(|&i| chunk[i]).collect();
                    let gradients: Vec<RowValues> = needed.iter().map(|&i| gradients[i]).collect();
                    if self.recompute {
                        let (_, kept) = self.context.evaluate_saving(&evaluations, self.predicts())?;
                        totals.reached = true;
                        tch::with_grad(|| self.context.backward(kept, |rows| self.objective(rows, &gradients)))?;
                        continue;
                    }
                    let rows = tch::with_grad(|| self.context.evaluate(&evaluations, self.predicts()))?;
                    totals.reached |= backpropagate(|| self.objective(&rows, &gradients));
                }
            }
        }
        Ok(totals)
    }

    fn forward(&self, chunk: &[Evaluation], graph: GradientMode) -> Result<(EvaluationOutput, Option<Tape>)> {
        match graph {
            GradientMode::Kept => {
                let rows = tch::with_grad(|| self.context.evaluate(chunk, self.predicts()))?;
                let seen = rows.detached();
                Ok((seen, Some(Tape::Graph(rows))))
            }
            GradientMode::None | GradientMode::OnlyNeeded => Ok((self.context.evaluate(chunk, self.predicts())?, None)),
            GradientMode::Blockwise => {
                let (rows, kept) = self.context.evaluate_saving(chunk, self.predicts())?;
                Ok((rows, Some(Tape::Saved(Box::new(kept)))))
            }
        }
    }

    fn predicts(&self) -> bool {
        self.context.coefficients().needs_prediction()
    }

    /// All evaluations, each once: first those with text, then those without.
    fn evaluations(&self) -> Vec<Evaluation> {
        let mut evaluations = vec![];
        for group in self.groups {
            for step in group.steps.clone() {
                evaluations.extend(group.compared.pairs.iter().map(|&pair| group.evaluation(pair, step)));
                evaluations.extend(group.prior_texts.iter().flat_map(|&text| self.with_nulls(group, text, step)));
            }
        }
        if self.compares_to_none() {
            let mut seen = HashSet::new();
            let without: Vec<Evaluation> =
                evaluations.iter().map(|&evaluation| self.without_text(evaluation)).collect();
            evaluations.extend(without.into_iter().filter(|&evaluation| seen.insert(evaluation)));
        }
        evaluations
    }

    /// The evaluations of a text of a group with the null images.
    pub fn with_nulls(&self, group: &ItemGroup, text: usize, step: usize) -> impl Iterator<Item = Evaluation> {
        self.nulls.clone().map(move |null| group.with_null(null, text, step))
    }

    /// Whether the loss needs predictions without text.
    pub fn compares_to_none(&self) -> bool {
        self.options.loss != Loss::Diffusion && self.context.coefficients().needs_empty()
    }

    fn chunks<'u>(&self, evaluations: &'u [Evaluation]) -> Vec<&'u [Evaluation]> {
        let with = evaluations.iter().take_while(|evaluation| evaluation.text != self.context.encoded.no_text).count();
        let (with, without) = evaluations.split_at(with);
        with.chunks(self.batch).chain(without.chunks(self.batch)).collect()
    }

    /// The evaluation of the same image at the same time without text.
    pub fn without_text(&self, evaluation: Evaluation) -> Evaluation {
        Evaluation { text: self.context.encoded.no_text, ..evaluation }
    }

    /// `Σ gradient · value`, a number with the same gradient as the loss; `None` if all gradients are zero.
    fn objective(&self, rows: &EvaluationOutput, gradients: &[RowValues]) -> Option<Tensor> {
        let term = |values: &Option<Tensor>, gradient: fn(&RowValues) -> f64| {
            let gradients: Vec<f64> = gradients.iter().map(gradient).collect();
            let values = values.as_ref().filter(|_| gradients.iter().any(|&gradient| gradient != 0.0))?;
            let gradients = Tensor::from_slice(&gradients).to_device(values.device());
            Some((values.to_kind(Kind::Double) * gradients).sum(Kind::Double))
        };
        let terms = [
            term(&rows.attention, |row| row.attention),
            term(&rows.error, |row| row.error),
            term(&rows.squared, |row| row.squared),
        ];
        terms.into_iter().flatten().reduce(|a, b| a + b)
    }
}

/// What a forward pass keeps for its backward pass.
enum Tape {
    /// Numbers with a graph.
    Graph(EvaluationOutput),
    /// Hidden states, from which blocks are recomputed.
    Saved(Box<SavedEvaluation>),
}

impl RowValues {
    /// Whether the gradient is not zero.
    fn needed(&self) -> bool {
        self.attention != 0.0 || self.error != 0.0 || self.squared != 0.0
    }
}

/// Backpropagates; returns whether there was a graph to backpropagate through.
fn backpropagate(objective: impl FnOnce() -> Option<Tensor>) -> bool {
    match tch::with_grad(objective) {
        Some(objective) if objective.requires_grad() => {
            objective.backward();
            true
        }
        _ => false,
    }
}

/// The numbers of a chunk of `count` rows; those that are not computed are zero.
fn numbers(rows: &EvaluationOutput, count: usize) -> Vec<RowValues> {
    let of = |tensor: &Option<Tensor>| tensor.as_ref().map_or_else(|| vec![0.0; count], to_vec64);
    let (attention, error, squared) = (of(&rows.attention), of(&rows.error), of(&rows.squared));
    (0..count).map(|i| RowValues { attention: attention[i], error: error[i], squared: squared[i] }).collect()
}
