//! The numbers of a batch that are summed over its parts.

use super::heads::HeadStatistics;

/// The numbers of a batch, of a part of it, or of a worker's share, without the gradients, which are on the trained
/// tensors. Those of the parts add up to those of the batch.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// The sum of the losses of the groups; after the last part, their mean.
    pub loss: f64,
    /// The fraction of matching pairs whose loss is not zero, summed over the groups; after the last part, the mean.
    pub active: f64,
    /// Number of evaluations.
    pub rows: usize,
    /// Number of evaluations with a gradient.
    pub needed_rows: usize,
    /// Number of evaluations that were backpropagated through.
    pub backward_rows: usize,
    /// For each group, its pairs and their scores.
    pub scores: Vec<Vec<((usize, usize), f64)>>,
    /// `|f(match) − f(mismatch)|` of all comparisons.
    pub differences: Vec<f64>,
    /// Whether any evaluation with a gradient had a graph back to the trained tensors.
    pub reached: bool,
    /// The head weights of matching pairs.
    pub heads: HeadStatistics,
}

impl Totals {
    /// Adds the numbers of another part.
    pub fn add(&mut self, other: Totals) {
        self.loss += other.loss;
        self.active += other.active;
        self.rows += other.rows;
        self.needed_rows += other.needed_rows;
        self.backward_rows += other.backward_rows;
        self.scores.extend(other.scores);
        self.differences.extend(other.differences);
        self.reached |= other.reached;
        self.heads.add(&other.heads);
    }
}
