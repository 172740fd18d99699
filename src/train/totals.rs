use super::heads::HeadStatistics;

/// What a batch, a part of it or a worker's share comes to, beside the gradients on the leaves. Parts add up to the whole.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Sum over the groups, and then their mean.
    pub loss: f64,
    /// Number of matching pairs whose loss is not zero by their number in a group, summed in the same way.
    pub active: f64,
    /// Evaluations.
    pub rows: usize,
    /// Evaluations whose value the loss changes with.
    pub needed_rows: usize,
    /// Evaluations that were backpropagated through.
    pub backward_rows: usize,
    /// By group, the pairs of its comparison and their scores.
    pub scores: Vec<Vec<((usize, usize), f64)>>,
    /// `|f(match) − f(mismatch)|` of everything that was compared.
    pub differences: Vec<f64>,
    /// Whether anything that was asked for a gradient had a graph at all.
    pub reached: bool,
    pub heads: HeadStatistics,
}

impl Totals {
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
