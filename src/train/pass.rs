//! One batch through the network: scores, loss, and the gradient of the deltas, with no more backward than it needs.

use std::cell::RefCell;

use tch::{Kind, Tensor};

use super::group::ItemGroup;
use super::loss::{LossValue, binary_cross_entropy, cross_entropy, diffusion, triplet};
use super::totals::Totals;
use crate::config::{Loss, TrainConfig};
use crate::device::to_vec64;
use crate::score::{Evaluation, EvaluationOutput, SavedEvaluation, ScoringContext};
use crate::{Error, Result};

/// How the backward pass comes by its graph.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum GradientMode {
    /// None: only the scores are wanted.
    None,
    /// SavedEvaluation from the one forward pass.
    Kept,
    /// A first pass without finds the rows that need one, a second runs those.
    OnlyNeeded,
    /// Block by block, from the hidden states of the one forward pass.
    Blockwise,
}

/// What one evaluation gave, and how the loss changes with it.
#[derive(Clone, Copy, Default)]
struct RowValues {
    attention: f64,
    error: f64,
    squared: f64,
}

/// A batch on its way through the network.
pub struct Pass<'a> {
    pub context: &'a ScoringContext<'a>,
    pub options: &'a TrainConfig,
    pub groups: &'a [ItemGroup],
    /// Where in the batch the first of them stands.
    pub first: usize,
    /// What scores are divided by.
    pub temperature: f64,
    /// What the gradient is multiplied by.
    pub scale: f64,
    /// Evaluations at a time.
    pub batch: usize,
    /// Whether rows that are run a second time are so block by block.
    pub recompute: bool,
    /// The evaluations of the chunk under way, for whoever watches the context.
    pub under_way: &'a RefCell<Vec<Evaluation>>,
}

impl Pass<'_> {
    /// Runs the batch; gradients are added to the leaves of the context's patch.
    pub fn run(&self, graph: GradientMode) -> Result<Totals> {
        let evaluations = self.evaluations();
        let chunks: Vec<&[Evaluation]> = self.chunks(&evaluations);
        let mut rows = Vec::with_capacity(evaluations.len());
        let mut graphs: Vec<Option<Tape>> = vec![];
        for chunk in &chunks {
            self.under_way.replace(chunk.to_vec());
            let (seen, tape) = self.forward(chunk, graph)?;
            rows.extend(numbers(&seen, chunk.len()));
            graphs.push(tape);
        }
        self.under_way.take();

        let mut totals = Totals { rows: evaluations.len(), ..Totals::default() };
        let gradients = self.judge(&evaluations, &rows, &mut totals)?;
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
                Some(Tape::EvaluationOutput(rows)) => {
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
                Ok((seen, Some(Tape::EvaluationOutput(rows))))
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

    /// Every evaluation once: with text first, then without.
    fn evaluations(&self) -> Vec<Evaluation> {
        let mut with = vec![];
        let mut without = vec![];
        for group in self.groups {
            for step in group.steps.clone() {
                for &pair in &group.comparison.pairs {
                    with.push(group.evaluation(pair, step));
                    let plain = self.without_text(group, pair, step);
                    if self.compares_to_none() && !without.contains(&plain) {
                        without.push(plain);
                    }
                }
            }
        }
        with.extend(without);
        with
    }

    /// Whether the loss needs the prediction without text.
    fn compares_to_none(&self) -> bool {
        self.options.loss != Loss::Diffusion && self.context.coefficients().needs_empty()
    }

    fn chunks<'u>(&self, evaluations: &'u [Evaluation]) -> Vec<&'u [Evaluation]> {
        let with = evaluations.iter().take_while(|unit| unit.text != self.context.encoded.no_text).count();
        let (with, without) = evaluations.split_at(with);
        with.chunks(self.batch).chain(without.chunks(self.batch)).collect()
    }

    fn without_text(&self, group: &ItemGroup, pair: (usize, usize), step: usize) -> Evaluation {
        group.without_text(pair, step, self.context.encoded.no_text)
    }

    /// The loss, and for every row how it changes with what the row gave.
    fn judge(&self, evaluations: &[Evaluation], rows: &[RowValues], totals: &mut Totals) -> Result<Vec<RowValues>> {
        let place: std::collections::HashMap<Evaluation, usize> =
            evaluations.iter().enumerate().map(|(i, &unit)| (unit, i)).collect();
        let mut gradients = vec![RowValues::default(); rows.len()];
        let coefficients = self.context.coefficients();
        for group in self.groups {
            let steps = group.steps.len() as f64;
            if self.options.loss == Loss::Diffusion {
                let of = |&pair: &(usize, usize)| group.steps.clone().map(move |step| group.evaluation(pair, step));
                let index: Vec<usize> = group.comparison.pairs.iter().flat_map(of).map(|unit| place[&unit]).collect();
                let loss = diffusion(&index.iter().map(|&i| rows[i].squared).collect::<Vec<_>>());
                index
                    .iter()
                    .zip(&loss.gradient)
                    .for_each(|(&i, gradient)| gradients[i].squared += gradient * self.scale);
                self.add(totals, loss, group, &[])?;
                continue;
            }
            let mut scores = vec![0.0; group.comparison.pairs.len()];
            for (score, &pair) in scores.iter_mut().zip(&group.comparison.pairs) {
                for step in group.steps.clone() {
                    let row = rows[place[&group.evaluation(pair, step)]];
                    let none = self.compares_to_none().then(|| place[&self.without_text(group, pair, step)]);
                    let empty = none.map_or(0.0, |none| rows[none].error);
                    *score += coefficients.score(row.attention, row.error, empty) / steps;
                }
            }
            self.check(&scores, group, totals)?;
            for question in &group.comparison.questions {
                let difference = |negative: usize| (scores[question.positive] - scores[negative]).abs();
                totals.differences.extend(question.negatives().map(difference));
            }
            let loss = self.loss(&scores, group);
            for (&gradient, &pair) in loss.gradient.iter().zip(&group.comparison.pairs) {
                let gradient = gradient * self.scale / (self.temperature * steps);
                for step in group.steps.clone() {
                    let row = place[&group.evaluation(pair, step)];
                    gradients[row].attention += coefficients.attention * gradient;
                    gradients[row].error += coefficients.error * gradient;
                    if self.compares_to_none() {
                        gradients[place[&self.without_text(group, pair, step)]].error += coefficients.empty * gradient;
                    }
                }
            }
            self.add(totals, loss, group, &scores)?;
        }
        Ok(gradients)
    }

    fn loss(&self, scores: &[f64], group: &ItemGroup) -> LossValue {
        let scores: Vec<f64> = scores.iter().map(|score| score / self.temperature).collect();
        let questions = &group.comparison.questions;
        match self.options.loss {
            Loss::Triplet => triplet(&scores, questions, self.options.margin, self.options.negatives),
            Loss::CrossEntropy => cross_entropy(&scores, questions),
            Loss::BinaryCrossEntropy => binary_cross_entropy(&scores, questions),
            Loss::Diffusion => unreachable!("compares no scores"),
        }
    }

    fn add(&self, totals: &mut Totals, loss: LossValue, group: &ItemGroup, scores: &[f64]) -> Result<()> {
        totals.loss += loss.value;
        totals.active += loss.active;
        totals.scores.push(group.comparison.pairs.iter().copied().zip(scores.iter().copied()).collect());
        if totals.loss.is_finite() { Ok(()) } else { Err(self.not_finite("loss", loss.value, totals.scores.len() - 1)) }
    }

    /// Refuses scores that a loss could not be trusted with: a mismatch of minus infinity would cost nothing.
    fn check(&self, scores: &[f64], group: &ItemGroup, totals: &Totals) -> Result<()> {
        match scores.iter().zip(&group.comparison.pairs).find(|(score, _)| !score.is_finite()) {
            Some((&score, &(image, text))) => {
                let what = format!("score of image {image} and text {text}");
                Err(self.not_finite(&what, score, totals.scores.len()))
            }
            None => Ok(()),
        }
    }

    fn not_finite(&self, what: &str, value: f64, place: usize) -> Error {
        let item = self.first + place;
        let times = self.groups.get(place).and_then(|group| self.context.encoded.times.get(group.steps.clone()));
        Error::Training(format!(
            "the {what} is {value} for item {item} of the batch (timesteps {:?}); nothing was changed. Try a smaller \
             learning_rate, gradient_clip, or dtype=\"float32\"",
            times.unwrap_or_default()
        ))
    }

    /// `Σ gradient · value`: the number whose gradient is the loss's.
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

/// What is kept of a forward pass for its backward pass.
enum Tape {
    EvaluationOutput(EvaluationOutput),
    Saved(Box<SavedEvaluation>),
}

impl RowValues {
    fn needed(&self) -> bool {
        self.attention != 0.0 || self.error != 0.0 || self.squared != 0.0
    }
}

/// Whether there was a graph to go back through.
fn backpropagate(objective: impl FnOnce() -> Option<Tensor>) -> bool {
    match tch::with_grad(objective) {
        Some(objective) if objective.requires_grad() => {
            objective.backward();
            true
        }
        _ => false,
    }
}

fn numbers(rows: &EvaluationOutput, count: usize) -> Vec<RowValues> {
    let of = |tensor: &Option<Tensor>| tensor.as_ref().map_or_else(|| vec![0.0; count], to_vec64);
    let (attention, error, squared) = (of(&rows.attention), of(&rows.error), of(&rows.squared));
    (0..count).map(|i| RowValues { attention: attention[i], error: error[i], squared: squared[i] }).collect()
}
