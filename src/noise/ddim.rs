use tch::Tensor;

use super::clean::Clean;

/// One step of DDIM (Song et al. 2021, equations 12 and 16), from `ᾱ_t` to `ᾱ_{t−1}`:
/// `x ← √ᾱ_{t−1} z + √(1−ᾱ_{t−1}−σ²) ε + σ ε'` with `σ = η √((1−ᾱ_{t−1})/(1−ᾱ_t)) √(1−ᾱ_t/ᾱ_{t−1})`.
///
/// `noise` returns `ε'`; it is not called if `η` is 0.
pub fn step(clean: &Clean, alpha: f64, next: f64, eta: f64, noise: impl Fn() -> Tensor) -> Tensor {
    let sigma = eta * ((1.0 - next) / (1.0 - alpha) * (1.0 - alpha / next)).max(0.0).sqrt();
    // Rounding may make it a small negative number.
    let direction = (1.0 - next - sigma * sigma).max(0.0).sqrt();
    let x = &clean.latent * next.sqrt() + &clean.noise * direction;
    if eta > 0.0 { x + noise() * sigma } else { x }
}
