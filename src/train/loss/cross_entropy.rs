use super::{Comparison, LossValue};

/// `−log softmax` of the matching pair among its candidates: once among the images for its text, once among the texts
/// for its image. It is averaged over those of the two that have negatives, and over the matching pairs.
///
/// Scores 1 (positive) and 0 (negative): `log(1 + e⁻¹) = 0.313262`.
pub fn cross_entropy(scores: &[f64], comparisons: &[Comparison]) -> LossValue {
    let mut loss = LossValue { value: 0.0, gradient: vec![0.0; scores.len()], active: 1.0 };
    let share = 1.0 / comparisons.len() as f64;
    for comparison in comparisons {
        let kinds: Vec<&Vec<usize>> =
            [&comparison.other_images, &comparison.other_texts].into_iter().filter(|kind| !kind.is_empty()).collect();
        let weight = share / kinds.len() as f64;
        for negatives in kinds {
            let candidates: Vec<usize> = [comparison.positive].into_iter().chain(negatives.iter().copied()).collect();
            let largest = candidates.iter().map(|&i| scores[i]).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = candidates.iter().map(|&i| (scores[i] - largest).exp()).sum();
            loss.value += weight * (sum.ln() + largest - scores[comparison.positive]);
            for i in candidates {
                loss.gradient[i] += weight * (scores[i] - largest).exp() / sum;
            }
            loss.gradient[comparison.positive] -= weight;
        }
    }
    loss
}
