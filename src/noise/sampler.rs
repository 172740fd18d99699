use tch::Tensor;

use super::clean::Clean;
use super::{Prediction, Process, Sampler, SamplerKind, Schedule, Time, ddim, lcm};
use crate::{Error, Result};

/// The sampler of a diffusion model, by the scheduler's configuration.
pub struct DiffusionSampler<'a> {
    schedule: &'a Schedule,
    times: Vec<Time>,
    eta: f64,
}

impl<'a> DiffusionSampler<'a> {
    /// A sampler of so many steps; `eta` scales the noise that DDIM adds.
    ///
    /// # Errors
    /// `Config` if the schedule has no such number of steps; `Checkpoint` if the model cannot predict from pure noise,
    /// at which the schedule starts.
    pub fn new(schedule: &'a Schedule, steps: i64, eta: f64) -> Result<Self> {
        let config = schedule.config();
        let timesteps = match config.sampling.sampler {
            SamplerKind::Ddim => schedule.timesteps_from(steps, config.sampling.steps_offset)?,
            SamplerKind::LatentConsistency => {
                lcm::timesteps(steps, config.sampling.original_steps, schedule.train_timesteps())?
            }
        };
        let sampler = DiffusionSampler { schedule, times: Time::of(timesteps), eta };
        let noise_alone = sampler.times.iter().any(|&time| sampler.alpha(time.0 as i64) == 0.0);
        if noise_alone && config.prediction == Prediction::Epsilon {
            return Err(Error::Checkpoint(
                "the scheduler ends in noise alone (rescale_betas_zero_snr), from which a model that predicts noise \
                 (prediction_type epsilon) cannot generate; one of the two in scheduler_config.json is wrong"
                    .into(),
            ));
        }
        Ok(sampler)
    }

    /// `ᾱ` of a timestep; a negative one is the end of the last step.
    fn alpha(&self, timestep: i64) -> f64 {
        let alphas = self.schedule.alphas_cumprod();
        match usize::try_from(timestep) {
            Ok(timestep) => f64::from(alphas[timestep.min(alphas.len() - 1)]),
            Err(_) if self.schedule.config().sampling.alpha_to_one => 1.0,
            Err(_) => f64::from(alphas[0]),
        }
    }
}

impl Sampler for DiffusionSampler<'_> {
    /// With `leading` spacing the first may be `T` itself, see [`Schedule::timesteps`].
    fn times(&self) -> &[Time] {
        &self.times
    }

    fn step(&self, step: usize, predicted: &Tensor, x: &Tensor, noise: &dyn Fn() -> Tensor) -> Tensor {
        let (config, timestep) = (self.schedule.config(), self.times[step].0 as i64);
        let alpha = self.alpha(timestep);
        let clean = Clean::new(config.prediction, predicted, x, alpha, config.sampling.clip);
        match config.sampling.sampler {
            SamplerKind::Ddim => {
                // As in diffusers, not the next timestep of the list, whose spacing may be uneven.
                let next = timestep - self.schedule.train_timesteps() / self.times.len() as i64;
                ddim::step(&clean, alpha, self.alpha(next), self.eta, noise)
            }
            SamplerKind::LatentConsistency => {
                let next = self.times.get(step + 1).map(|&next| self.alpha(next.0 as i64));
                lcm::step(&clean, x, timestep, config.sampling.timestep_scaling, next, noise)
            }
        }
    }
}
