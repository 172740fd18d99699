use tch::Tensor;

use super::clean::Clean;
use crate::{Error, Result};

/// The standard deviation of latents that the boundary conditions assume.
const SIGMA_DATA: f64 = 0.5;

/// The timesteps of multistep consistency sampling: `steps` of the `original` evenly spaced ones that the model was
/// distilled on, the noisiest first.
///
/// # Errors
/// `Config` if there are fewer than `steps`.
pub fn timesteps(steps: i64, original: i64, train: i64) -> Result<Vec<i64>> {
    if !(1..=original).contains(&steps) {
        return Err(Error::Config(format!(
            "steps is {steps}; this latent consistency model's schedule allows 1 to {original} (4 are usual)"
        )));
    }
    let every = train / original;
    let apart = original as f64 / steps as f64;
    Ok((0..steps).map(|i| (original - (i as f64 * apart).floor() as i64) * every - 1).collect())
}

/// One step (Luo et al. 2023, algorithm 3): `z' = c_out z + c_skip x`, to which noise is added up to `ᾱ = next`, except
/// in the last step. `c_skip` and `c_out` are those of consistency models (Song et al. 2023, appendix C); at timestep 0
/// the result is `x`.
pub fn step(
    clean: &Clean,
    x: &Tensor,
    timestep: i64,
    scaling: f64,
    next: Option<f64>,
    noise: impl Fn() -> Tensor,
) -> Tensor {
    let scaled = timestep as f64 * scaling;
    let variance = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
    let (skip, out) = (SIGMA_DATA * SIGMA_DATA / variance, scaled / variance.sqrt());
    let denoised = &clean.latent * out + x * skip;
    match next {
        Some(next) => denoised * next.sqrt() + noise() * (1.0 - next).sqrt(),
        None => denoised,
    }
}
