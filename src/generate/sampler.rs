use tch::Tensor;

use super::clean::Clean;
use super::{ddim, lcm};
use crate::checkpoint::{PIPELINE_OFFSET, Prediction, SamplerKind, SchedulerConfig};
use crate::noise::Schedule;
use crate::{Error, Result};

/// The way from noise to a clean latent in so many steps, as the scheduler's configuration says.
pub struct Sampler<'a> {
    config: &'a SchedulerConfig,
    schedule: &'a Schedule,
    timesteps: Vec<i64>,
    eta: f64,
}

impl<'a> Sampler<'a> {
    /// # Errors
    /// `Config` if the schedule has no such number of steps, `Checkpoint` if it starts where nothing can be predicted
    /// from.
    pub fn new(config: &'a SchedulerConfig, schedule: &'a Schedule, steps: i64, eta: f64) -> Result<Self> {
        let timesteps = match config.sampling.sampler {
            SamplerKind::Ddim => schedule.timesteps_from(steps, PIPELINE_OFFSET)?,
            SamplerKind::LatentConsistency => {
                lcm::timesteps(steps, config.sampling.original_steps, schedule.train_timesteps())?
            }
        };
        let sampler = Sampler { config, schedule, timesteps, eta };
        let noise_alone = sampler.timesteps.iter().any(|&t| sampler.alpha(t) == 0.0);
        if noise_alone && config.prediction == Prediction::Epsilon {
            return Err(Error::Checkpoint(
                "the scheduler ends in noise alone (rescale_betas_zero_snr), from which a model that predicts noise \
                 (prediction_type epsilon) cannot generate; one of the two in scheduler_config.json is wrong"
                    .into(),
            ));
        }
        Ok(sampler)
    }

    /// The noisiest first. With `leading` spacing the first may be `T` itself, see [`Schedule::timesteps`].
    pub fn timesteps(&self) -> &[i64] {
        &self.timesteps
    }

    /// From the latents `x` `[I, C, h, w]` of one step to those of the next, given what the network predicts; float32.
    /// `noise` gives noise of that shape and is asked only where some is added.
    pub fn step(&self, step: usize, predicted: &Tensor, x: &Tensor, noise: impl Fn() -> Tensor) -> Tensor {
        let (config, timestep) = (&self.config.sampling, self.timesteps[step]);
        let alpha = self.alpha(timestep);
        let clean = Clean::new(self.config.prediction, predicted, x, alpha, config.clip);
        match config.sampler {
            SamplerKind::Ddim => {
                // Not the next timestep of the list: spacing may be uneven, and diffusers counts like this.
                let next = timestep - self.schedule.train_timesteps() / self.timesteps.len() as i64;
                ddim::step(&clean, alpha, self.alpha(next), self.eta, noise)
            }
            SamplerKind::LatentConsistency => {
                let next = self.timesteps.get(step + 1).map(|&next| self.alpha(next));
                lcm::step(&clean, x, timestep, config.timestep_scaling, next, noise)
            }
        }
    }

    /// `ᾱ`; below timestep 0, where the last step ends.
    fn alpha(&self, timestep: i64) -> f64 {
        let alphas = self.schedule.alphas_cumprod();
        match usize::try_from(timestep) {
            Ok(timestep) => f64::from(alphas[timestep.min(alphas.len() - 1)]),
            Err(_) if self.config.sampling.alpha_to_one => 1.0,
            Err(_) => f64::from(alphas[0]),
        }
    }
}
