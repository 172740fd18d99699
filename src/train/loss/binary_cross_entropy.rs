use super::{Comparison, LossValue};

/// Appendix F.4 as printed: `−(y log σ(f) + (1 − y) log(1 − σ(f)))`, averaged over the pairs, each once.
///
/// Scores 2 (positive) and −1 (negative): `(log(1 + e⁻²) + log(1 + e⁻¹)) / 2 = 0.220095`.
pub fn binary_cross_entropy(scores: &[f64], comparisons: &[Comparison]) -> LossValue {
    let mut label = vec![None; scores.len()];
    for comparison in comparisons {
        comparison.negatives().for_each(|negative| label[negative] = Some(0.0));
    }
    for comparison in comparisons {
        label[comparison.positive] = Some(1.0);
    }
    let count = label.iter().flatten().count() as f64;
    let mut loss = LossValue { value: 0.0, gradient: vec![0.0; scores.len()], active: 1.0 };
    for (i, y) in label.into_iter().enumerate().filter_map(|(i, y)| Some((i, y?))) {
        let f = scores[i];
        // log(1 + eᶠ) − y f, without overflow
        loss.value += (f.max(0.0) + (-f.abs()).exp().ln_1p() - y * f) / count;
        loss.gradient[i] = (1.0 / (1.0 + (-f).exp()) - y) / count;
    }
    loss
}
