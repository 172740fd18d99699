use super::{Comparison, LossValue};
use crate::config::Negatives;

/// Eq. 6: `max(0, f(negative) − f(positive) + M)`, of the hardest negative or the mean over all of them, averaged over
/// the matching pairs.
///
/// Scores 0.5 (positive), 0.45 and 0.1 (negatives), `M = 0.2`: 0.15 for the hardest, 0.075 for the mean.
pub fn triplet(scores: &[f64], comparisons: &[Comparison], margin: f64, negatives: Negatives) -> LossValue {
    let mut loss = LossValue { value: 0.0, gradient: vec![0.0; scores.len()], active: 0.0 };
    let share = 1.0 / comparisons.len() as f64;
    for comparison in comparisons {
        let hinge = |negative: usize| scores[negative] - scores[comparison.positive] + margin;
        let counted: Vec<usize> = match negatives {
            Negatives::Mean => comparison.negatives().collect(),
            // The first of equal ones, so that runs are reproducible.
            Negatives::Hardest => {
                comparison.negatives().reduce(|a, b| if scores[b] > scores[a] { b } else { a }).into_iter().collect()
            }
        };
        let weight = share / counted.len() as f64;
        // NaN counts as active, so that it reaches the loss and is reported.
        let active: Vec<usize> =
            counted.into_iter().filter(|&negative| hinge(negative) > 0.0 || hinge(negative).is_nan()).collect();
        loss.active += if active.is_empty() { 0.0 } else { share };
        for negative in active {
            loss.value += weight * hinge(negative);
            loss.gradient[negative] += weight;
            loss.gradient[comparison.positive] -= weight;
        }
    }
    loss
}
