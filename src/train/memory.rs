use super::pass::GradientMode;

/// How much of a batch is in memory at a time. Results depend on it by rounding alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Most rows whose graph may be kept at a time, where memory ran out before.
    limit: Option<usize>,
    /// Whether blocks are run again, since memory ran out with one row.
    recompute: bool,
}

/// Rows whose graphs are kept however small a batch is: an item has about as many, and finding out first which of them
/// are needed costs up to half as much again.
const AT_LEAST: usize = 4;
/// How many rows' hidden states between blocks take the memory of one row's graph.
const BOUNDARIES: usize = 8;
/// Below this share of rows with a gradient, finding them first is cheaper than keeping a graph of all: a backward
/// pass costs about 1.14 forward passes, so `1 + 2.14 q < 2.14`.
const FEW: f64 = 0.53;

impl Memory {
    /// Rows whose graphs may be kept at a time, where `batch` is how many are evaluated at a time.
    pub fn limit(self, batch: usize) -> usize {
        self.limit.unwrap_or(batch.max(AT_LEAST))
    }

    /// Rows that are evaluated at a time.
    pub fn batch(self, batch: usize) -> usize {
        batch.min(self.limit(batch))
    }

    /// Whether blocks are run again in the backward pass.
    pub fn recompute(self, asked: bool) -> bool {
        asked || self.recompute
    }

    /// How the graph of `rows` rows is come by; `needed` is the share of them that had a gradient so far.
    pub fn graph(self, rows: usize, batch: usize, needed: f64, recompute: bool) -> GradientMode {
        let limit = self.limit(batch);
        if self.recompute(recompute) {
            return if rows <= BOUNDARIES * limit { GradientMode::Blockwise } else { GradientMode::OnlyNeeded };
        }
        // A row on its own is dropped with its graph if nothing needs it.
        if rows > limit || needed < FEW && self.batch(batch) > 1 {
            GradientMode::OnlyNeeded
        } else {
            GradientMode::Kept
        }
    }

    /// What to try after memory ran out with `tried` rows at a time; None if there is nothing left to try.
    pub fn less(self, tried: usize) -> Option<Self> {
        match tried {
            0 | 1 if self.recompute => None,
            0 | 1 => Some(Memory { limit: Some(1), recompute: true }),
            _ => Some(Memory { limit: Some(tried / 2), ..self }),
        }
    }
}
