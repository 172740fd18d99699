use tch::Tensor;

use super::flow_config::{FlowConfig, Shift};
use super::{Prediction, Process, Sampler, Time};
use crate::{Error, Result};

/// The process of flow matching (Lipman et al. 2023, rectified as by Liu et al. 2023), `z_σ = (1 − σ) z + σ ε`: a noise
/// level is `σ` itself, and a time is `T σ`, which is what the network reads.
///
/// Unlike a diffusion model's, its times are real numbers. Those of scores are multiples of 10⁻⁶, so that a noise level
/// that was written down is the same time again, with the same noise.
pub struct Flow {
    config: FlowConfig,
}

impl Flow {
    /// A flow with a scheduler's configuration.
    pub fn new(config: FlowConfig) -> Self {
        Flow { config }
    }

    /// `σ` before each step of a run of `steps` Euler steps, the noisiest first, and 0 at the end, for latents of this
    /// height and width; computed in diffusers' order and types, to be equal up to the rounding of float32.
    ///
    /// # Errors
    /// `Config` if the schedule has no such number of steps.
    pub fn sigmas(&self, steps: i64, size: [i64; 2]) -> Result<Vec<f32>> {
        let train = self.config.train_timesteps;
        let least = if self.config.terminal.is_some() { 2 } else { 1 };
        if !(least..=train).contains(&steps) {
            return Err(Error::Config(format!("steps is {steps}; this model's schedule allows {least} to {train}")));
        }
        // A fixed shift moves the ends of the schedule too, which is then shifted as a whole.
        let (shift, of_ends) = match &self.config.shift {
            Shift::Fixed(shift) => (*shift, *shift as f32),
            Shift::Dynamic(dynamic) => (dynamic.shift(size)?, 1.0),
        };
        let end = |sigma: f32| f64::from(of_ends * sigma / (1.0 + (of_ends - 1.0) * sigma)) * train as f64;
        let evenly = evenly_spaced([end(1.0), end(1.0 / train as f32)], steps);
        let mut sigmas: Vec<f64> =
            evenly.map(|time| time / train as f64).map(|sigma| shift * sigma / (1.0 + (shift - 1.0) * sigma)).collect();
        if let Some(terminal) = self.config.terminal {
            let stretch = (1.0 - sigmas[sigmas.len() - 1]) / (1.0 - terminal);
            sigmas.iter_mut().for_each(|sigma| *sigma = 1.0 - (1.0 - *sigma) / stretch);
        }
        Ok(sigmas.into_iter().map(|sigma| sigma as f32).chain([0.0]).collect())
    }

    /// A time of scores.
    fn time(time: f64) -> Time {
        const PARTS: f64 = 1e6;
        Time((time * PARTS).round() / PARTS)
    }
}

impl Process for Flow {
    fn prediction(&self) -> Prediction {
        Prediction::Flow
    }

    fn train_timesteps(&self) -> i64 {
        self.config.train_timesteps
    }

    fn steps(&self, steps: i64, size: [i64; 2]) -> Result<Vec<Time>> {
        let times = EulerSampler::new(self, steps, size)?.times;
        Ok(times.into_iter().map(|time| Flow::time(time.0)).collect())
    }

    fn between(&self, low: f64, high: f64, steps: i64) -> Result<Vec<Time>> {
        let most = if low < high { self.config.train_timesteps } else { 1 };
        if !(1..=most).contains(&steps) {
            return Err(Error::Config(format!(
                "steps is {steps}; noise_range from {low} to {high} takes 1 to {most} of this model"
            )));
        }
        let ends = if steps == 1 { [(low + high) / 2.0; 2] } else { [high, low] };
        Ok(evenly_spaced(ends, steps).map(|level| self.at_level(level)).collect())
    }

    fn at_level(&self, level: f64) -> Time {
        Flow::time(level * self.config.train_timesteps as f64)
    }

    /// The times of a grid of `T`; without noise there is nothing to learn.
    fn all(&self) -> Vec<Time> {
        Time::of(1..=self.config.train_timesteps)
    }

    fn at(&self, timesteps: &[f64], name: &str) -> Result<Vec<Time>> {
        let last = self.config.train_timesteps;
        match timesteps.iter().find(|time| !(0.0..=last as f64).contains(*time)) {
            Some(time) => Err(Error::Config(format!("{name} is {time}; this model's times are 0 to {last}, {last} σ"))),
            None => Ok(timesteps.iter().map(|&time| Flow::time(time)).collect()),
        }
    }

    /// `(1 − σ, σ)`.
    fn factors(&self, time: Time) -> (f64, f64) {
        let sigma = time.0 / self.config.train_timesteps as f64;
        (1.0 - sigma, sigma)
    }

    fn model_time(&self, time: Time) -> f64 {
        time.0
    }

    fn default_steps(&self) -> i64 {
        28
    }

    fn takes_eta(&self) -> bool {
        false
    }

    fn sampler(&self, steps: i64, _: f64, size: [i64; 2]) -> Result<Box<dyn Sampler + '_>> {
        Ok(Box::new(EulerSampler::new(self, steps, size)?))
    }

    /// The shift is not among them: it says at which times images are generated, not what happens at a time.
    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("prediction_type", format!("{:?}", self.prediction())),
            ("noise schedule", format!("flow of {}", self.config.train_timesteps)),
        ]
    }

    fn alphas_cumprod(&self) -> Option<&[f32]> {
        None
    }
}

/// Euler's method: each step follows the predicted velocity to the next noise level.
struct EulerSampler {
    /// `σ` before each step, and at the end.
    sigmas: Vec<f32>,
    times: Vec<Time>,
}

impl EulerSampler {
    fn new(flow: &Flow, steps: i64, size: [i64; 2]) -> Result<Self> {
        let sigmas = flow.sigmas(steps, size)?;
        let train = flow.config.train_timesteps as f32;
        let times = sigmas[..sigmas.len() - 1].iter().map(|sigma| Time(f64::from(sigma * train))).collect();
        Ok(EulerSampler { sigmas, times })
    }
}

impl Sampler for EulerSampler {
    fn times(&self) -> &[Time] {
        &self.times
    }

    fn step(&self, step: usize, predicted: &Tensor, x: &Tensor, _: &dyn Fn() -> Tensor) -> Tensor {
        x + predicted * f64::from(self.sigmas[step + 1] - self.sigmas[step])
    }
}

/// `count` numbers evenly spaced from the first end to the second, both included; the first alone if it is one.
fn evenly_spaced([first, last]: [f64; 2], count: i64) -> impl Iterator<Item = f64> {
    let step = (last - first) / (count - 1).max(1) as f64;
    (0..count).map(move |i| if i > 0 && i + 1 == count { last } else { i as f64 * step + first })
}
