use super::LossValue;

/// `‖target − ε_θ(z_t, y)‖²`, the mean over the latent, averaged over the evaluations; the target is `ε`, or `v` for
/// models that predict it.
///
/// Errors 1 and 3: 2.
pub fn diffusion(squared_errors: &[f64]) -> LossValue {
    let count = squared_errors.len() as f64;
    LossValue {
        value: squared_errors.iter().sum::<f64>() / count,
        gradient: vec![1.0 / count; squared_errors.len()],
        active: 1.0,
    }
}
