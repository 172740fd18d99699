use serde_json::json;

use super::json::Json;
use crate::Result;

/// How the variances `β_t` were laid out in training.
#[derive(Debug, Clone, PartialEq)]
pub enum BetaSchedule {
    Linear,
    ScaledLinear,
    SquaredCosine,
    /// `trained_betas`, given one by one.
    Given(Vec<f64>),
}

/// What the UNet predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// The noise `ε`.
    Epsilon,
    /// `v = √ᾱ ε − √(1−ᾱ) z`.
    Velocity,
}

/// How `N` timesteps are spread over the `T` of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    Leading,
    Trailing,
    Linspace,
}

/// The fields of `scheduler_config.json` that a DDIM schedule is made from, whatever scheduler wrote it.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    pub train_timesteps: i64,
    pub beta_start: f64,
    pub beta_end: f64,
    pub betas: BetaSchedule,
    pub prediction: Prediction,
    pub spacing: Spacing,
    pub steps_offset: i64,
    pub zero_terminal_snr: bool,
}

impl SchedulerConfig {
    /// Absent fields take DDIM's own defaults, as they do when diffusers reads another scheduler's file.
    pub(super) fn read(config: &Json) -> Result<Self> {
        let betas = match config.optional::<Vec<f64>>("trained_betas")? {
            Some(betas) => BetaSchedule::Given(betas),
            None => match config.or("beta_schedule", "linear".to_owned())?.as_str() {
                "linear" => BetaSchedule::Linear,
                "scaled_linear" => BetaSchedule::ScaledLinear,
                "squaredcos_cap_v2" => BetaSchedule::SquaredCosine,
                other => {
                    return Err(config.error("beta_schedule", &format!("is {other:?}, which is not supported")));
                }
            },
        };
        let prediction = match config.or("prediction_type", "epsilon".to_owned())?.as_str() {
            "epsilon" => Prediction::Epsilon,
            "v_prediction" => Prediction::Velocity,
            other => {
                return Err(
                    config.error("prediction_type", &format!("is {other:?}; expected \"epsilon\" or \"v_prediction\""))
                );
            }
        };
        let spacing = match config.or("timestep_spacing", "leading".to_owned())?.as_str() {
            "leading" => Spacing::Leading,
            "trailing" => Spacing::Trailing,
            "linspace" => Spacing::Linspace,
            other => {
                return Err(config.error("timestep_spacing", &format!("is {other:?}, which is not supported")));
            }
        };
        config.only("thresholding", &[json!(false)])?;
        let schedule = SchedulerConfig {
            train_timesteps: config.positive("num_train_timesteps", Some(1000))?,
            beta_start: config.or("beta_start", 0.0001)?,
            beta_end: config.or("beta_end", 0.02)?,
            prediction,
            spacing,
            steps_offset: config.or("steps_offset", 0)?,
            zero_terminal_snr: config.or("rescale_betas_zero_snr", false)?,
            betas,
        };
        if let BetaSchedule::Given(betas) = &schedule.betas
            && betas.len() as i64 != schedule.train_timesteps
        {
            let what = format!("has {} entries for {} timesteps", betas.len(), schedule.train_timesteps);
            return Err(config.error("trained_betas", &what));
        }
        if !(0..schedule.train_timesteps).contains(&schedule.steps_offset) {
            return Err(config.error("steps_offset", &format!("is {}, outside the schedule", schedule.steps_offset)));
        }
        Ok(schedule)
    }
}
