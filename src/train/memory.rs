//! How much of a training batch is in memory at a time.

use super::pass::GradientMode;

/// How many rows of a batch are in memory at a time, and how their graphs are kept. Results depend on it only by
/// rounding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// The most rows whose graphs are kept at a time, if memory has run out before.
    limit: Option<usize>,
    /// Whether blocks are recomputed, because memory ran out with a single row.
    recompute: bool,
}

/// The number of rows whose graphs are kept even if the batch size is smaller: an item has about as many, and a first
/// pass that finds the rows with a gradient costs up to half as much again.
const AT_LEAST: usize = 4;
/// The number of rows whose hidden states between blocks take as much memory as the graph of one row.
const BOUNDARIES: usize = 8;
/// Below this fraction `q` of rows with a gradient, finding them first is cheaper than keeping a graph of all: a
/// backward pass costs about 1.14 forward passes, so `1 + 2.14 q < 2.14`.
const FEW: f64 = 0.53;

impl Memory {
    /// The number of rows whose graphs may be kept at a time, if `batch` rows are evaluated at a time.
    pub fn limit(self, batch: usize) -> usize {
        self.limit.unwrap_or(batch.max(AT_LEAST))
    }

    /// The number of rows that are evaluated at a time, if the batch size is `batch`.
    pub fn batch(self, batch: usize) -> usize {
        batch.min(self.limit(batch))
    }

    /// Whether blocks are recomputed in the backward pass; `asked` is the option of the user.
    pub fn recompute(self, asked: bool) -> bool {
        asked || self.recompute
    }

    /// How gradients of `rows` rows are computed; `needed` is the fraction of rows that had a gradient so far.
    pub fn graph(self, rows: usize, batch: usize, needed: f64, recompute: bool) -> GradientMode {
        let limit = self.limit(batch);
        if self.recompute(recompute) {
            return if rows <= BOUNDARIES * limit { GradientMode::Blockwise } else { GradientMode::OnlyNeeded };
        }
        // The graph of a single row is dropped if the row has no gradient.
        if rows > limit || needed < FEW && self.batch(batch) > 1 {
            GradientMode::OnlyNeeded
        } else {
            GradientMode::Kept
        }
    }

    /// What to try after memory ran out with `tried` rows at a time; `None` if nothing is left to try.
    pub fn less(self, tried: usize) -> Option<Self> {
        match tried {
            0 | 1 if self.recompute => None,
            0 | 1 => Some(Memory { limit: Some(1), recompute: true }),
            _ => Some(Memory { limit: Some(tried / 2), ..self }),
        }
    }
}
