use tch::{Device, Kind, Tensor};

use super::{
    BetaSchedule, DiffusionSampler, Prediction, Process, Sampler, SamplerKind, SchedulerConfig, Spacing, Time,
};
use crate::checkpoint::together;
use crate::{Error, Result};

/// The process of a diffusion model, `z_t = √ᾱ_t z + √(1−ᾱ_t) ε`: `ᾱ_t` for every training timestep, and the DDIM
/// timesteps of a run of `N` steps (Song et al. 2021, section 4).
pub struct Schedule {
    config: SchedulerConfig,
    alphas_cumprod: Vec<f32>,
}

impl Schedule {
    /// Computes `ᾱ` in float32 with libtorch's own operations, so that it equals PyTorch's to the last bit.
    pub fn new(config: SchedulerConfig) -> Self {
        let betas = betas(&config);
        let betas = if config.zero_terminal_snr { zero_terminal_snr(&betas) } else { betas };
        let alphas_cumprod = (-betas + 1f64).cumprod(0, None);
        Schedule { alphas_cumprod: crate::device::to_vec(&alphas_cumprod), config }
    }

    /// The DDIM timesteps of a run of `steps` steps, the noisiest first.
    ///
    /// With `leading` spacing and an offset the first may be `T` itself (as in diffusers); [`Self::clamp`] maps it to
    /// the last timestep that exists.
    ///
    /// # Errors
    /// `Config` if the schedule has no such number of steps.
    pub fn timesteps(&self, steps: i64) -> Result<Vec<i64>> {
        self.timesteps_from(steps, self.config.steps_offset)
    }

    /// [`Self::timesteps`] with another offset.
    ///
    /// # Errors
    /// As [`Self::timesteps`].
    pub fn timesteps_from(&self, steps: i64, offset: i64) -> Result<Vec<i64>> {
        let train = self.train_timesteps();
        if !(1..=train).contains(&steps) {
            return Err(Error::Config(format!("steps is {steps}; this model's schedule allows 1 to {train}")));
        }
        let ratio = train as f64 / steps as f64;
        Ok(match self.config.spacing {
            Spacing::Leading => (0..steps).rev().map(|i| i * (train / steps) + offset).collect(),
            Spacing::Trailing => {
                (0..steps).map(|i| (train as f64 - i as f64 * ratio).round_ties_even() as i64 - 1).collect()
            }
            Spacing::Linspace => {
                let step = if steps == 1 { 0.0 } else { (train - 1) as f64 / (steps - 1) as f64 };
                (0..steps).rev().map(|i| (i as f64 * step).round_ties_even() as i64).collect()
            }
        })
    }

    /// `steps` timesteps whose noise levels are evenly spaced from `high` down to `low`, both included; a single one is
    /// in the middle.
    ///
    /// # Errors
    /// `Config` if the range has fewer timesteps.
    pub fn timesteps_between(&self, low: f64, high: f64, steps: i64) -> Result<Vec<i64>> {
        let most = self.timestep_at(high) - self.timestep_at(low) + 1;
        if !(1..=most).contains(&steps) {
            return Err(Error::Config(format!(
                "steps is {steps}; noise_range from {low} to {high} holds 1 to {most} timesteps of this model"
            )));
        }
        let level = |i: i64| match steps {
            1 => (low + high) / 2.0,
            _ => high - (high - low) * i as f64 / (steps - 1) as f64,
        };
        Ok((0..steps).map(|i| self.timestep_at(level(i))).collect())
    }

    /// The timestep of a noise level: `t = round(level · T)`.
    pub fn timestep_at(&self, level: f64) -> i64 {
        self.clamp((level * self.train_timesteps() as f64).round() as i64)
    }

    /// The nearest timestep that exists.
    pub fn clamp(&self, timestep: i64) -> i64 {
        timestep.clamp(0, self.train_timesteps() - 1)
    }

    /// `ᾱ_t` for `t = 0 … T−1`.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// The scheduler's configuration.
    pub fn config(&self) -> &SchedulerConfig {
        &self.config
    }
}

impl Process for Schedule {
    fn prediction(&self) -> Prediction {
        self.config.prediction
    }

    fn train_timesteps(&self) -> i64 {
        self.alphas_cumprod.len() as i64
    }

    fn steps(&self, steps: i64, _: [i64; 2]) -> Result<Vec<Time>> {
        self.timesteps(steps).map(Time::of)
    }

    fn between(&self, low: f64, high: f64, steps: i64) -> Result<Vec<Time>> {
        self.timesteps_between(low, high, steps).map(Time::of)
    }

    fn at_level(&self, level: f64) -> Time {
        Time(self.timestep_at(level) as f64)
    }

    fn all(&self) -> Vec<Time> {
        Time::of(0..self.train_timesteps())
    }

    fn at(&self, timesteps: &[f64], name: &str) -> Result<Vec<Time>> {
        let last = self.train_timesteps() - 1;
        let exists = |t: &f64| t.fract() == 0.0 && (0.0..=last as f64).contains(t);
        match timesteps.iter().find(|t| !exists(t)) {
            Some(t) => Err(Error::Config(format!("{name} is {t}; this model's timesteps are 0 to {last}"))),
            None => Ok(timesteps.iter().copied().map(Time).collect()),
        }
    }

    /// `(√ᾱ_t, √(1−ᾱ_t))`.
    fn factors(&self, time: Time) -> (f64, f64) {
        let alpha = self.alphas_cumprod[self.clamp(time.0 as i64) as usize];
        (f64::from(alpha.sqrt()), f64::from((1.0 - alpha).sqrt()))
    }

    fn model_time(&self, time: Time) -> f64 {
        self.clamp(time.0 as i64) as f64
    }

    fn default_steps(&self) -> i64 {
        if self.config.sampling.sampler == SamplerKind::LatentConsistency { 4 } else { 50 }
    }

    fn takes_eta(&self) -> bool {
        self.config.sampling.sampler == SamplerKind::Ddim
    }

    fn sampler(&self, steps: i64, eta: f64, _: [i64; 2]) -> Result<Box<dyn Sampler + '_>> {
        Ok(Box::new(DiffusionSampler::new(self, steps, eta)?))
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let betas: Vec<String> = self.alphas_cumprod.iter().map(|x| format!("{:08x}", x.to_bits())).collect();
        vec![
            ("prediction_type", format!("{:?}", self.config.prediction)),
            ("noise schedule", together(betas.iter().map(String::as_str))),
        ]
    }

    fn alphas_cumprod(&self) -> Option<&[f32]> {
        Some(&self.alphas_cumprod)
    }
}

fn betas(config: &SchedulerConfig) -> Tensor {
    let options = (Kind::Float, Device::Cpu);
    let (start, end, count) = (config.beta_start, config.beta_end, config.train_timesteps);
    match &config.betas {
        BetaSchedule::Linear => Tensor::linspace(start, end, count, options),
        BetaSchedule::ScaledLinear => Tensor::linspace(start.sqrt(), end.sqrt(), count, options).square(),
        BetaSchedule::SquaredCosine => {
            let bar = |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
            let beta =
                |i: i64| (1.0 - bar((i + 1) as f64 / count as f64) / bar(i as f64 / count as f64)).min(0.999) as f32;
            Tensor::from_slice(&(0..count).map(beta).collect::<Vec<f32>>())
        }
        BetaSchedule::Given(betas) => Tensor::from_slice(&betas.iter().map(|&beta| beta as f32).collect::<Vec<f32>>()),
    }
}

/// Shifts and scales `√ᾱ` so that the last timestep is pure noise (Lin et al. 2024, algorithm 1).
fn zero_terminal_snr(betas: &Tensor) -> Tensor {
    let root = (-betas + 1f64).cumprod(0, None).sqrt();
    let (first, last) = (root.get(0), root.get(-1));
    let root = (root - &last) * (&first / (&first - &last));
    let bar = root.square();
    let alphas = Tensor::cat(&[bar.narrow(0, 0, 1), bar.slice(0, 1, None, 1) / bar.slice(0, 0, -1, 1)], 0);
    -alphas + 1f64
}
