use tch::{Device, Kind, Tensor};

use crate::checkpoint::{BetaSchedule, SchedulerConfig, Spacing};
use crate::torch::upload;
use crate::{Error, Result};

/// `ᾱ_t` for every training timestep, and the DDIM timesteps of a run of `N` steps (Song et al. 2021, section 4).
pub struct Schedule {
    alphas_cumprod: Vec<f32>,
    spacing: Spacing,
    steps_offset: i64,
}

impl Schedule {
    /// Computes `ᾱ` in float32 with libtorch's own operations, so that it equals PyTorch's to the last bit.
    pub fn new(config: &SchedulerConfig) -> Self {
        let betas = betas(config);
        let betas = if config.zero_terminal_snr { zero_terminal_snr(&betas) } else { betas };
        let alphas_cumprod = (-betas + 1f64).cumprod(0, None);
        Schedule {
            alphas_cumprod: crate::torch::to_vec(&alphas_cumprod),
            spacing: config.spacing,
            steps_offset: config.steps_offset,
        }
    }

    /// `T`, the number of training timesteps.
    pub fn train_timesteps(&self) -> i64 {
        self.alphas_cumprod.len() as i64
    }

    /// `ᾱ_t` for `t = 0 … T−1`.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// The DDIM timesteps of a run of `steps` steps, the noisiest first.
    ///
    /// With `leading` spacing and an offset the first may be `T` itself (diffusers lists it too); [`Self::clamp`]
    /// brings it back to the last timestep that exists.
    pub fn timesteps(&self, steps: i64) -> Result<Vec<i64>> {
        self.timesteps_from(steps, self.steps_offset)
    }

    /// The same with another offset.
    pub fn timesteps_from(&self, steps: i64, offset: i64) -> Result<Vec<i64>> {
        let train = self.train_timesteps();
        if !(1..=train).contains(&steps) {
            return Err(Error::Config(format!("steps is {steps}; this model's schedule allows 1 to {train}")));
        }
        let ratio = train as f64 / steps as f64;
        Ok(match self.spacing {
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

    /// `steps` timesteps whose noise levels are evenly spaced from `high` down to `low`, both included; one is the
    /// middle.
    ///
    /// # Errors
    /// `Config` where the range holds fewer timesteps than that.
    pub fn between(&self, low: f64, high: f64, steps: i64) -> Result<Vec<i64>> {
        let most = self.at_level(high) - self.at_level(low) + 1;
        if !(1..=most).contains(&steps) {
            return Err(Error::Config(format!(
                "steps is {steps}; noise_range from {low} to {high} holds 1 to {most} timesteps of this model"
            )));
        }
        let level = |i: i64| match steps {
            1 => (low + high) / 2.0,
            _ => high - (high - low) * i as f64 / (steps - 1) as f64,
        };
        Ok((0..steps).map(|i| self.at_level(level(i))).collect())
    }

    /// The timestep of a noise level: `t = round(level · T)`.
    pub fn at_level(&self, level: f64) -> i64 {
        self.clamp((level * self.train_timesteps() as f64).round() as i64)
    }

    /// The nearest timestep that exists.
    pub fn clamp(&self, timestep: i64) -> i64 {
        timestep.clamp(0, self.train_timesteps() - 1)
    }

    /// `(√ᾱ_t, √(1−ᾱ_t))`.
    pub fn factors(&self, timestep: i64) -> (f64, f64) {
        let alpha = self.alphas_cumprod[self.clamp(timestep) as usize];
        (f64::from(alpha.sqrt()), f64::from((1.0 - alpha).sqrt()))
    }

    /// Eq. 3: `z_t` `[I, C, h, w]` from `z` and `ε`, of the same shape, and as many timesteps.
    pub fn add_noise(&self, clean: &Tensor, noise: &Tensor, timesteps: &[i64]) -> Tensor {
        let (signal, sigma) = self.factors_of(timesteps, clean.device());
        clean * signal + noise * sigma
    }

    /// `v = √ᾱ ε − √(1−ᾱ) z` (Salimans & Ho 2022), what a velocity model predicts; shapes as in [`Self::add_noise`].
    pub fn velocity(&self, clean: &Tensor, noise: &Tensor, timesteps: &[i64]) -> Tensor {
        let (signal, sigma) = self.factors_of(timesteps, clean.device());
        noise * signal - clean * sigma
    }

    /// The factors of some timesteps, both `[I, 1, 1, 1]`.
    fn factors_of(&self, timesteps: &[i64], device: Device) -> (Tensor, Tensor) {
        let factors: Vec<f32> = timesteps
            .iter()
            .map(|&t| self.factors(t))
            .flat_map(|(signal, sigma)| [signal as f32, sigma as f32])
            .collect();
        let factors = upload(&Tensor::from_slice(&factors).view([-1, 2, 1, 1, 1]), device);
        (factors.select(1, 0), factors.select(1, 1))
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
