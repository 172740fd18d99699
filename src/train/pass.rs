//! One batch through the network: scores, loss, and the gradient of the deltas, with no more backward than it needs.

use std::cell::RefCell;

use tch::{Kind, Tensor};

use super::group::Group;
use super::loss::{LossValue, binary_cross_entropy, cross_entropy, diffusion, triplet};
use crate::config::{Loss, Method, TrainConfig};
use crate::score::{Kept, Rows, Scene, Unit};
use crate::torch::to_vec64;
use crate::{Error, Result};

/// What a pass has to say.
#[derive(Default)]
pub struct Outcome {
    /// Sum over the groups.
    pub loss: f64,
    pub active: f64,
    pub rows: usize,
    /// Rows whose value the loss changes with.
    pub needed_rows: usize,
    pub backward_rows: usize,
    /// By group, the score of each pair of its comparison.
    pub scores: Vec<Vec<f64>>,
    /// `|f(match) − f(mismatch)|` of everything that was compared.
    pub differences: Vec<f64>,
    /// Whether anything that was asked for a gradient had a graph at all.
    pub reached: bool,
}

/// How the backward pass comes by its graph.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Graph {
    /// None: only the scores are wanted.
    None,
    /// Kept from the one forward pass.
    Kept,
    /// A first pass without finds the rows that need one, a second runs those.
    OnlyNeeded,
    /// Block by block, from the hidden states of the one forward pass.
    Blockwise,
}

/// What one evaluation gave, and how the loss changes with it.
#[derive(Clone, Copy, Default)]
struct Row {
    attention: f64,
    error: f64,
    squared: f64,
}

/// A batch on its way through the network.
pub struct Pass<'a> {
    pub scene: &'a Scene<'a>,
    pub options: &'a TrainConfig,
    pub groups: &'a [Group],
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
    /// The units of the chunk under way, for whoever watches the scene.
    pub under_way: &'a RefCell<Vec<Unit>>,
}

impl Pass<'_> {
    /// Runs the batch; gradients are added to the leaves of the scene's patch.
    pub fn run(&self, graph: Graph) -> Result<Outcome> {
        let units = self.units();
        let chunks: Vec<&[Unit]> = self.chunks(&units);
        let mut rows = Vec::with_capacity(units.len());
        let mut graphs: Vec<Option<Tape>> = vec![];
        for chunk in &chunks {
            self.under_way.replace(chunk.to_vec());
            let (seen, tape) = self.forward(chunk, graph)?;
            rows.extend(numbers(&seen, chunk.len()));
            graphs.push(tape);
        }
        self.under_way.take();

        let mut outcome = Outcome { rows: units.len(), ..Outcome::default() };
        let slopes = self.judge(&units, &rows, &mut outcome)?;
        if graph == Graph::None {
            return Ok(outcome);
        }
        let mut start = 0;
        for (chunk, tape) in chunks.iter().zip(graphs) {
            let slopes = &slopes[start..start + chunk.len()];
            start += chunk.len();
            let needed: Vec<usize> = (0..chunk.len()).filter(|&i| slopes[i].needed()).collect();
            outcome.needed_rows += needed.len();
            if needed.is_empty() {
                continue;
            }
            match tape {
                Some(Tape::Rows(rows)) => {
                    outcome.backward_rows += chunk.len();
                    outcome.reached |= backpropagate(|| self.objective(&rows, slopes));
                }
                Some(Tape::Kept(kept)) => {
                    outcome.backward_rows += chunk.len();
                    outcome.reached = true;
                    tch::with_grad(|| self.scene.backward(*kept, |rows| self.objective(rows, slopes)))?;
                }
                None => {
                    outcome.backward_rows += needed.len();
                    let units: Vec<Unit> = needed.iter().map(|&i| chunk[i]).collect();
                    let slopes: Vec<Row> = needed.iter().map(|&i| slopes[i]).collect();
                    if self.recompute {
                        let (_, kept) = self.scene.evaluate_keeping(&units, self.predicts())?;
                        outcome.reached = true;
                        tch::with_grad(|| self.scene.backward(kept, |rows| self.objective(rows, &slopes)))?;
                        continue;
                    }
                    let rows = tch::with_grad(|| self.scene.evaluate(&units, self.predicts()))?;
                    outcome.reached |= backpropagate(|| self.objective(&rows, &slopes));
                }
            }
        }
        Ok(outcome)
    }

    fn forward(&self, chunk: &[Unit], graph: Graph) -> Result<(Rows, Option<Tape>)> {
        match graph {
            Graph::Kept => {
                let rows = tch::with_grad(|| self.scene.evaluate(chunk, self.predicts()))?;
                let seen = rows.detached();
                Ok((seen, Some(Tape::Rows(rows))))
            }
            Graph::None | Graph::OnlyNeeded => Ok((self.scene.evaluate(chunk, self.predicts())?, None)),
            Graph::Blockwise => {
                let (rows, kept) = self.scene.evaluate_keeping(chunk, self.predicts())?;
                Ok((rows, Some(Tape::Kept(Box::new(kept)))))
            }
        }
    }

    fn predicts(&self) -> bool {
        self.scene.config.method != Method::Attention
    }

    /// Every evaluation once: with text first, then without.
    fn units(&self) -> Vec<Unit> {
        let mut with = vec![];
        let mut without = vec![];
        for group in self.groups {
            for step in group.steps.clone() {
                for &pair in &group.comparison.pairs {
                    with.push(group.unit(pair, step));
                    let plain = group.without_text(pair, step, self.scene.empty_text);
                    if self.compares_to_none() && !without.contains(&plain) {
                        without.push(plain);
                    }
                }
            }
        }
        with.extend(without);
        with
    }

    /// Whether the scores that the loss compares hold a denoising term.
    fn counts_error(&self) -> bool {
        self.predicts() && self.options.loss != Loss::Diffusion
    }

    /// Whether the loss needs the prediction without text.
    fn compares_to_none(&self) -> bool {
        self.counts_error() && self.scene.config.compares_to_empty()
    }

    fn chunks<'u>(&self, units: &'u [Unit]) -> Vec<&'u [Unit]> {
        let with = units.iter().take_while(|unit| unit.text != self.scene.empty_text).count();
        let (with, without) = units.split_at(with);
        with.chunks(self.batch).chain(without.chunks(self.batch)).collect()
    }

    /// The loss, and for every row how it changes with what the row gave.
    fn judge(&self, units: &[Unit], rows: &[Row], outcome: &mut Outcome) -> Result<Vec<Row>> {
        let place: std::collections::HashMap<Unit, usize> =
            units.iter().enumerate().map(|(i, &unit)| (unit, i)).collect();
        let mut slopes = vec![Row::default(); rows.len()];
        let (weight, method) = (self.scene.config.denoising_weight, self.scene.config.method);
        let help = if method == Method::Denoising { 1.0 } else { weight };
        for group in self.groups {
            let steps = group.steps.len() as f64;
            if self.options.loss == Loss::Diffusion {
                let of = |&pair: &(usize, usize)| group.steps.clone().map(move |step| group.unit(pair, step));
                let index: Vec<usize> = group.comparison.pairs.iter().flat_map(of).map(|unit| place[&unit]).collect();
                let loss = diffusion(&index.iter().map(|&i| rows[i].squared).collect::<Vec<_>>());
                index.iter().zip(&loss.gradient).for_each(|(&i, slope)| slopes[i].squared += slope * self.scale);
                self.add(outcome, loss, vec![])?;
                continue;
            }
            let mut scores = vec![0.0; group.comparison.pairs.len()];
            for (score, &pair) in scores.iter_mut().zip(&group.comparison.pairs) {
                for step in group.steps.clone() {
                    let row = rows[place[&group.unit(pair, step)]];
                    *score += row.attention / steps;
                    if self.counts_error() {
                        *score -= help * row.error / steps;
                    }
                    if self.compares_to_none() {
                        let none = rows[place[&group.without_text(pair, step, self.scene.empty_text)]];
                        *score += help * none.error / steps;
                    }
                }
            }
            self.check(&scores, group, outcome)?;
            for question in &group.comparison.questions {
                let difference = |negative: usize| (scores[question.positive] - scores[negative]).abs();
                outcome.differences.extend(question.negatives().map(difference));
            }
            let loss = self.loss(&scores, group);
            for (&slope, &pair) in loss.gradient.iter().zip(&group.comparison.pairs) {
                let slope = slope * self.scale / (self.temperature * steps);
                for step in group.steps.clone() {
                    let row = place[&group.unit(pair, step)];
                    slopes[row].attention += slope;
                    if self.counts_error() {
                        slopes[row].error -= help * slope;
                    }
                    if self.compares_to_none() {
                        let none = place[&group.without_text(pair, step, self.scene.empty_text)];
                        slopes[none].error += help * slope;
                    }
                }
            }
            self.add(outcome, loss, scores)?;
        }
        Ok(slopes)
    }

    fn loss(&self, scores: &[f64], group: &Group) -> LossValue {
        let scores: Vec<f64> = scores.iter().map(|score| score / self.temperature).collect();
        let questions = &group.comparison.questions;
        match self.options.loss {
            Loss::Triplet => triplet(&scores, questions, self.options.margin, self.options.negatives),
            Loss::CrossEntropy => cross_entropy(&scores, questions),
            Loss::BinaryCrossEntropy => binary_cross_entropy(&scores, questions),
            Loss::Diffusion => unreachable!("compares no scores"),
        }
    }

    fn add(&self, outcome: &mut Outcome, loss: LossValue, scores: Vec<f64>) -> Result<()> {
        outcome.loss += loss.value;
        outcome.active += loss.active;
        outcome.scores.push(scores);
        if outcome.loss.is_finite() {
            Ok(())
        } else {
            Err(self.not_finite("loss", loss.value, outcome.scores.len() - 1))
        }
    }

    /// Refuses scores that a loss could not be trusted with: a mismatch of minus infinity would cost nothing.
    fn check(&self, scores: &[f64], group: &Group, outcome: &Outcome) -> Result<()> {
        match scores.iter().zip(&group.comparison.pairs).find(|(score, _)| !score.is_finite()) {
            Some((&score, &(image, text))) => {
                let what = format!("score of image {image} and text {text}");
                Err(self.not_finite(&what, score, outcome.scores.len()))
            }
            None => Ok(()),
        }
    }

    fn not_finite(&self, what: &str, value: f64, place: usize) -> Error {
        let item = self.first + place;
        let times = self.groups.get(place).and_then(|group| self.scene.timesteps.get(group.steps.clone()));
        Error::Training(format!(
            "the {what} is {value} for item {item} of the batch (timesteps {:?}); nothing was changed. Try a smaller \
             learning_rate, gradient_clip, or dtype=\"float32\"",
            times.unwrap_or_default()
        ))
    }

    /// `Σ slope · value`: the number whose gradient is the loss's.
    fn objective(&self, rows: &Rows, slopes: &[Row]) -> Option<Tensor> {
        let term = |values: &Option<Tensor>, slope: fn(&Row) -> f64| {
            let slopes: Vec<f64> = slopes.iter().map(slope).collect();
            let values = values.as_ref().filter(|_| slopes.iter().any(|&slope| slope != 0.0))?;
            let slopes = Tensor::from_slice(&slopes).to_device(values.device());
            Some((values.to_kind(Kind::Double) * slopes).sum(Kind::Double))
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
    Rows(Rows),
    Kept(Box<Kept>),
}

impl Row {
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

fn numbers(rows: &Rows, count: usize) -> Vec<Row> {
    let of = |tensor: &Option<Tensor>| tensor.as_ref().map_or_else(|| vec![0.0; count], to_vec64);
    let (attention, error, squared) = (of(&rows.attention), of(&rows.error), of(&rows.squared));
    (0..count).map(|i| Row { attention: attention[i], error: error[i], squared: squared[i] }).collect()
}
