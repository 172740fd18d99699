//! What a configuration says for a model: sizes, times and noise.

use tch::Tensor;

use super::Model;
use crate::config::{ScoreConfig, Times};
use crate::denoiser::MicroConditions;
use crate::noise::{self, Time};
use crate::{Error, Result};

/// See [`Model::with_sizes`].
pub fn with_sizes(model: &Model, base: MicroConditions, sizes: [Option<[i64; 2]>; 3]) -> Result<MicroConditions> {
    let named = ["original_size", "crops_coords_top_left", "target_size"].iter().zip(&sizes);
    if let Some((name, Some(size))) = named.into_iter().find(|(_, size)| size.is_some())
        && !model.denoiser().reads_sizes()
    {
        return Err(Error::Config(format!("{name} is {size:?}, but this model takes no sizes; leave it out")));
    }
    let [original, crop, target] = sizes;
    Ok(base.with_sizes(original, crop, target))
}

/// See [`Model::latent_shape`].
pub fn latent_shape(model: &Model, config: &ScoreConfig) -> Result<[i64; 3]> {
    let side = config.resolution.unwrap_or_else(|| model.resolution());
    check_side(model, "resolution", side)?;
    let side = side as i64 / model.vae().scale_factor();
    Ok([model.vae().latent_channels, side, side])
}

/// Refuses a side of an image, in pixels, that the model cannot take; `name` is what users call it.
///
/// # Errors
/// `Config`, naming it.
pub fn check_side(model: &Model, name: &str, side: usize) -> Result<()> {
    let (factor, own) = (model.vae().scale_factor(), model.resolution());
    let multiple = factor * model.denoiser().patch_size();
    let largest = model.denoiser().largest_side().map_or(i64::MAX, |side| side * factor);
    let side = side as i64;
    if side % multiple != 0 {
        return Err(Error::Config(format!(
            "{name} is {side}; this model needs a multiple of {multiple}, its own is {own}"
        )));
    }
    if side > largest {
        return Err(Error::Config(format!("{name} is {side}; this model takes at most {largest}, its own is {own}")));
    }
    Ok(())
}

/// See [`Model::times`].
pub fn times(model: &Model, config: &ScoreConfig) -> Result<Vec<Time>> {
    let process = model.process();
    match &config.times {
        Times::Steps(steps) => {
            let [_, height, width] = model.latent_shape(config)?;
            process.steps(*steps, [height, width])
        }
        Times::Timesteps(timesteps) => process.at(timesteps, "timesteps"),
        Times::NoiseLevels(levels) => Ok(levels.iter().map(|&level| process.at_level(level)).collect()),
        &Times::Range { low, high, steps } => process.between(low, high, steps),
    }
}

/// See [`Model::noise`].
pub fn noise(model: &Model, config: &ScoreConfig) -> Result<Tensor> {
    let shape = model.latent_shape(config)?;
    let times = model.times(config)?;
    let draws = times.iter().enumerate().map(|(i, &t)| {
        let repeat = times[..i].iter().filter(|&&earlier| earlier == t).count() as u32;
        noise::draw(config.seed, t, repeat, shape)
    });
    Ok(Tensor::stack(&draws.collect::<Vec<_>>(), 0))
}
