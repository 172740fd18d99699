//! Head weights learned in training (appendix J): the mean of the attributed weights of all matching pairs so far.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::deltas::AttentionLayer;
use crate::device::to_vec64;
use crate::score::Evaluation;

/// For each layer index, the sum of head weights `[H]` and the number of summands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeadStatistics {
    sums: BTreeMap<usize, (Vec<f64>, u64)>,
}

impl HeadStatistics {
    /// Adds the weights `[B, H]` of one layer, of those rows of `evaluations` that are matching pairs.
    pub fn record(
        &mut self,
        layer: usize,
        weights: &Tensor,
        evaluations: &[Evaluation],
        matching: &HashSet<Evaluation>,
    ) {
        let heads = weights.size()[1] as usize;
        let rows = to_vec64(weights);
        for (row, _) in rows.chunks(heads).zip(evaluations).filter(|(_, evaluation)| matching.contains(evaluation)) {
            let (sum, count) = self.sums.entry(layer).or_insert_with(|| (vec![0.0; heads], 0));
            sum.iter_mut().zip(row).for_each(|(sum, weight)| *sum += weight);
            *count += 1;
        }
    }

    /// Adds the sums of another batch or worker.
    pub fn add(&mut self, other: &HeadStatistics) {
        for (&layer, (more, seen)) in &other.sums {
            let (sum, count) = self.sums.entry(layer).or_insert_with(|| (vec![0.0; more.len()], 0));
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            *count += seen;
        }
    }

    /// All numbers in an order that depends only on the model, so that workers can add them: for each layer the number
    /// of summands, then the sum of each head.
    pub fn flat(&self, layers: &[AttentionLayer]) -> Vec<f64> {
        let of = |(index, layer): (usize, &AttentionLayer)| match self.sums.get(&index) {
            Some((sum, count)) => std::iter::once(*count as f64).chain(sum.iter().copied()).collect(),
            None => vec![0.0; layer.heads as usize + 1],
        };
        layers.iter().enumerate().flat_map(of).collect()
    }

    /// The inverse of [`Self::flat`]; `numbers` must have the same length.
    pub fn from_flat(layers: &[AttentionLayer], numbers: &[f64]) -> Self {
        let mut statistics = HeadStatistics::default();
        let mut left = numbers;
        for (index, layer) in layers.iter().enumerate() {
            let (own, rest) = left.split_at(layer.heads as usize + 1);
            left = rest;
            if own[0] > 0.0 {
                statistics.sums.insert(index, (own[1..].to_vec(), own[0] as u64));
            }
        }
        statistics
    }

    /// For each layer's name the mean weights `[H]`, whose mean is 1; `None` if nothing was recorded.
    pub fn weights(&self, layers: &[AttentionLayer]) -> Option<BTreeMap<String, Vec<f64>>> {
        let mean = |(&layer, (sum, count)): (&usize, &(Vec<f64>, u64))| {
            (layers[layer].name.clone(), sum.iter().map(|sum| sum / *count as f64).collect())
        };
        (!self.sums.is_empty()).then(|| self.sums.iter().map(mean).collect())
    }
}
