//! Stage 3: adds noise to latents (Eq. 3), and removes it by sampling. A [`Process`] is the noise process that a model
//! was trained to reverse, by its scheduler's configuration; [`Schedule`] is that of diffusion models, [`Flow`] that of
//! flow matching.

mod beta_defaults;
mod clean;
mod config;
mod ddim;
mod diffusion;
mod draw;
mod flow;
mod flow_config;
mod lcm;
mod read;
mod sampler;

use tch::{Device, Tensor};

pub use config::{
    BetaSchedule, Clip, PIPELINE_OFFSET, Prediction, SamplerKind, SamplingConfig, SchedulerConfig, Spacing,
};
pub use diffusion::Schedule;
pub use draw::draw;
pub use flow::Flow;
pub use flow_config::{DynamicShift, FlowConfig, Shift};
pub use read::{PipelineSettings, read};
pub use sampler::DiffusionSampler;

use crate::Result;
use crate::device::upload;

/// A time of a process: a training timestep of a diffusion model, where 0 is clean, or `T σ` of a flow.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Time(pub f64);

impl Time {
    /// The time as a whole number, if it is one.
    pub fn whole(self) -> Option<i64> {
        (self.0.fract() == 0.0 && self.0.abs() < 1e15).then_some(self.0 as i64)
    }

    /// The times of whole numbers.
    pub fn of(timesteps: impl IntoIterator<Item = i64>) -> Vec<Time> {
        timesteps.into_iter().map(|t| Time(t as f64)).collect()
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A noise process: a noised latent is `z_t = signal · z + sigma · ε`, of a clean latent `z` and noise `ε`.
pub trait Process: Send {
    /// What the network predicts.
    fn prediction(&self) -> Prediction;

    /// `T`, the number of timesteps of training.
    fn train_timesteps(&self) -> i64;

    /// The times of a run of `steps` steps over the whole schedule, the noisiest first. `size` is the height and width of
    /// the latents, which the schedule of some flows depends on.
    ///
    /// # Errors
    /// `Config` if the schedule has no such number of steps.
    fn steps(&self, steps: i64, size: [i64; 2]) -> Result<Vec<Time>>;

    /// `steps` times whose noise levels are evenly spaced from `high` down to `low`, both included; a single one is in
    /// the middle.
    ///
    /// # Errors
    /// `Config` if the range has fewer times.
    fn between(&self, low: f64, high: f64, steps: i64) -> Result<Vec<Time>>;

    /// The time of a noise level from 0 to 1.
    fn at_level(&self, level: f64) -> Time;

    /// All times, from which training draws.
    fn all(&self) -> Vec<Time>;

    /// The times of these training timesteps; `name` is the option that lists them, for messages.
    ///
    /// # Errors
    /// `Config` if there is no such time.
    fn at(&self, timesteps: &[f64], name: &str) -> Result<Vec<Time>>;

    /// `(signal, sigma)` of a time.
    fn factors(&self, time: Time) -> (f64, f64);

    /// The network's input for a time.
    fn model_time(&self, time: Time) -> f64;

    /// The default number of sampler steps.
    fn default_steps(&self) -> i64;

    /// Whether the sampler has an option `eta` for the noise that it adds.
    fn takes_eta(&self) -> bool;

    /// A sampler of so many steps for latents of this height and width.
    ///
    /// # Errors
    /// `Config` if the schedule has no such number of steps; `Checkpoint` if the model cannot predict from pure noise,
    /// at which the schedule starts.
    fn sampler(&self, steps: i64, eta: f64, size: [i64; 2]) -> Result<Box<dyn Sampler + '_>>;

    /// The settings that deltas depend on, by name, for their fingerprint.
    fn settings(&self) -> Vec<(&'static str, String)>;

    /// `ᾱ_t` of each training timestep, if the process has timesteps.
    fn alphas_cumprod(&self) -> Option<&[f32]>;
}

/// Computes a clean latent from noise, step by step.
pub trait Sampler {
    /// The times of the steps, the noisiest first.
    fn times(&self) -> &[Time];

    /// The latents after a step, from those before it, `x` `[I, C, h, w]`, and the network's prediction; float32.
    /// `noise` returns noise of that shape; it is called only if noise is added.
    fn step(&self, step: usize, predicted: &Tensor, x: &Tensor, noise: &dyn Fn() -> Tensor) -> Tensor;
}

impl dyn Process + '_ {
    /// Eq. 3: `z_t` `[I, C, h, w]` from `z` and `ε`, of the same shape, and `I` times.
    pub fn add_noise(&self, clean: &Tensor, noise: &Tensor, times: &[Time]) -> Tensor {
        let (signal, sigma) = self.factors_of(times, clean.device());
        clean * signal + noise * sigma
    }

    /// The target of the prediction `[I, C, h, w]`, from `z` and `ε`, of the same shape, and `I` times.
    pub fn target(&self, clean: &Tensor, noise: &Tensor, times: &[Time]) -> Tensor {
        match self.prediction() {
            Prediction::Epsilon => noise.shallow_clone(),
            Prediction::Velocity => {
                let (signal, sigma) = self.factors_of(times, clean.device());
                noise * signal - clean * sigma
            }
            Prediction::Flow => noise - clean,
        }
    }

    /// What the error of a prediction at a time is multiplied by to be that of the noise that it implies: noise and
    /// prediction are linear in each other for a given `z_t`.
    pub fn error_of_noise(&self, time: Time) -> f64 {
        let (signal, sigma) = self.factors(time);
        match self.prediction() {
            Prediction::Epsilon => 1.0,
            Prediction::Velocity => signal,
            Prediction::Flow => signal / (signal + sigma),
        }
    }

    /// The clean latent that a prediction for noise alone implies, `x = sigma · ε`; shapes `[B, C, h, w]`.
    pub fn clean_of_noise(&self, noise: &Tensor, predicted: &Tensor, time: Time) -> Tensor {
        let (signal, sigma) = self.factors(time);
        match self.prediction() {
            Prediction::Epsilon => (noise - predicted) * (sigma / signal),
            Prediction::Velocity => (noise * signal - predicted) * sigma,
            Prediction::Flow => (noise - predicted) * (sigma / (signal + sigma)),
        }
    }

    /// `signal` and `sigma` of `I` times, both `[I, 1, 1, 1]`.
    fn factors_of(&self, times: &[Time], device: Device) -> (Tensor, Tensor) {
        let factors = times.iter().map(|&time| self.factors(time));
        let factors: Vec<f32> = factors.flat_map(|(signal, sigma)| [signal as f32, sigma as f32]).collect();
        let factors = upload(&Tensor::from_slice(&factors).view([-1, 2, 1, 1, 1]), device);
        (factors.select(1, 0), factors.select(1, 1))
    }
}
