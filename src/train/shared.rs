//! A step in two halves: each worker computes the gradient of its share of a batch, and applies the sum of all shares.

use tch::{Kind, Tensor};

use super::batch::Share;
use super::heads::HeadStatistics;
use super::state::State;
use super::totals::Totals;
use super::{Session, StepReport};
use crate::device::to_vec64;
use crate::{Error, Result};

/// The gradient of a share of a batch, with the statistics that workers add up too.
#[derive(Debug, Clone)]
pub struct Gradient {
    /// The gradients of all trained tensors, concatenated. They are float64, so that the order in which workers are
    /// added does not show in float32.
    pub values: Vec<f64>,
    /// Loss, active fraction, counts and sums of head weights, in an order that depends only on the model.
    pub statistics: Vec<f64>,
}

/// Number of statistics before those of heads.
const COUNTS: usize = 5;

impl Session {
    /// The first half of a step: the gradient of some items of a batch. `indices` may be empty.
    ///
    /// Each item is evaluated on its own, so that its gradient is identical to the last bit whatever other items the
    /// worker has. Adam divides a gradient by its magnitude, so that rounding would show in the deltas where terms
    /// cancel.
    ///
    /// # Errors
    /// `Config` with `in_batch` or `batch_texts`, which compare items of a batch; otherwise as [`Session::step`].
    pub fn share(&mut self, indices: &[usize], share: Share) -> Result<Gradient> {
        if (self.options().in_batch || self.options().batch_texts > 0) && share.of > 1 {
            return Err(Error::Config(
                "in_batch and batch_texts compare items of a batch, so that workers cannot share it; train on one, or \
                 without them"
                    .into(),
            ));
        }
        if self.state.hold().temperature.is_none() {
            return Err(Error::Internal(anyhow::anyhow!("a shared step needs a temperature that all workers have")));
        }
        let mut sums: Vec<Tensor> =
            self.trained.iter().map(|tensor| tensor.zeros_like().to_kind(Kind::Double)).collect();
        let mut totals = Totals::default();
        for (place, &index) in indices.iter().enumerate() {
            totals.add(self.backpropagate(&[index], Share { first: share.first + place, ..share })?);
            for (sum, gradient) in sums.iter_mut().zip(self.trained.iter().map(Tensor::grad)) {
                if gradient.defined() {
                    let _ = sum.g_add_(&gradient);
                }
            }
        }
        let values = sums.iter().flat_map(to_vec64).collect();
        let counts = [totals.rows, totals.needed_rows, totals.backward_rows].map(|count| count as f64);
        let mut statistics = vec![totals.loss, totals.active];
        statistics.extend(counts);
        statistics.extend(totals.heads.flat(self.model.layers()));
        Ok(Gradient { values, statistics })
    }

    /// The second half of a step, with the sum of all workers' shares; `None` if the gradient overflowed half
    /// precision, so that the first half must be repeated with a smaller loss scale.
    ///
    /// # Errors
    /// `Internal` if the numbers belong to another model; `Training` as [`Session::step`].
    pub fn apply(&mut self, gradient: &Gradient, total: u64) -> Result<Option<StepReport>> {
        let layers = self.model.layers();
        let heads = layers.iter().map(|layer| layer.heads as usize + 1).sum::<usize>();
        if gradient.values.len() != self.parameters() || gradient.statistics.len() != COUNTS + heads {
            return Err(Error::Internal(anyhow::anyhow!("a gradient of another model")));
        }
        let counts = &gradient.statistics;
        let totals = Totals {
            loss: counts[0],
            active: counts[1],
            rows: counts[2] as usize,
            needed_rows: counts[3] as usize,
            backward_rows: counts[4] as usize,
            heads: HeadStatistics::from_flat(layers, &counts[COUNTS..]),
            ..Totals::default()
        };
        let mut left = gradient.values.as_slice();
        for tensor in &self.trained {
            let (own, rest) = left.split_at(tensor.numel());
            left = rest;
            let own = Tensor::from_slice(own).view(tensor.size().as_slice());
            let own = own.to_kind(Kind::Float).to_device(tensor.device());
            write_gradient(tensor, &own);
        }
        self.finish(&totals, total)
    }

    /// The optimiser's step with the gradients on the trained tensors; `None` if they overflowed half precision.
    pub(super) fn finish(&mut self, totals: &Totals, total: u64) -> Result<Option<StepReport>> {
        self.state.hold().step(totals, total)
    }
}

impl State {
    /// One step with the gradients on the trained tensors; `None` if they overflowed half precision.
    fn step(&mut self, totals: &Totals, total: u64) -> Result<Option<StepReport>> {
        let norm = self.gradient_norm();
        if !norm.is_finite() {
            if self.scale.overflowed() {
                return Ok(None);
            }
            return Err(Error::Training(format!(
                "the gradient of step {} is no finite number; nothing was changed. Try a smaller learning_rate, \
                 gradient_clip, or dtype=\"float32\"",
                self.optimizer.steps
            )));
        }
        let rate = self.options.rate(self.optimizer.steps, total);
        let limit = self.options.gradient_clip.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
        self.optimizer.step(&mut self.trained, rate, limit / self.scale.factor());
        self.scale.went_well();
        self.heads.add(&totals.heads);
        self.needed = 0.9 * self.needed + 0.1 * totals.needed_rows as f64 / totals.rows.max(1) as f64;
        Ok(Some(StepReport {
            step: self.optimizer.steps,
            loss: totals.loss,
            temperature: self.temperature.as_ref().map_or(1.0, |temperature| temperature.value),
            learning_rate: rate,
            gradient_norm: norm,
            active: totals.active,
            rows: totals.rows,
            backward_rows: totals.backward_rows,
        }))
    }

    fn gradient_norm(&self) -> f64 {
        let squares = self.trained.iter().map(Tensor::grad).filter(Tensor::defined).map(|gradient| {
            let norm = gradient.norm().double_value(&[]);
            norm * norm
        });
        squares.sum::<f64>().sqrt() / self.scale.factor()
    }
}

/// Sets the gradient of a leaf.
fn write_gradient(leaf: &Tensor, values: &Tensor) {
    let mut gradient = leaf.grad();
    if !gradient.defined() {
        // tch cannot set it, but a backward pass of `leaf · values` does.
        tch::with_grad(|| (leaf * values).sum(Kind::Float).backward());
        return;
    }
    tch::no_grad(|| gradient.copy_(values));
}
