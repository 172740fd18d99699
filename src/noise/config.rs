//! The configuration of a scheduler.

use super::beta_defaults::{BetaDefaults, beta_defaults};
use crate::Result;
use crate::checkpoint::Json;

/// The variances `β_t` of training.
#[derive(Debug, Clone, PartialEq)]
pub enum BetaSchedule {
    /// `β_t` is linear in `t`.
    Linear,
    /// `√β_t` is linear in `t`.
    ScaledLinear,
    /// `ᾱ_t` is a squared cosine (Nichol & Dhariwal 2021).
    SquaredCosine,
    /// `trained_betas`, one value for each timestep.
    Given(Vec<f64>),
}

/// What the denoising network predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// The noise `ε`.
    Epsilon,
    /// `v = √ᾱ ε − √(1−ᾱ) z`.
    Velocity,
    /// `ε − z`, the velocity of a flow.
    Flow,
}

impl Prediction {
    /// All of them.
    pub const ALL: [Prediction; 3] = [Prediction::Epsilon, Prediction::Velocity, Prediction::Flow];

    /// The name in configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Prediction::Epsilon => "epsilon",
            Prediction::Velocity => "v_prediction",
            Prediction::Flow => "flow_prediction",
        }
    }

    /// The inverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Prediction::ALL.into_iter().find(|prediction| prediction.name() == name)
    }
}

/// How `N` timesteps are chosen from the `T` of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// Multiples of `T/N`, rounded down, plus an offset.
    Leading,
    /// `T`, and down from there in steps of `T/N`, minus 1.
    Trailing,
    /// `N` evenly spaced timesteps from 0 to `T − 1`.
    Linspace,
}

/// The sampler with which images are generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplerKind {
    /// DDIM (Song et al. 2021), for all schedulers but `LCMScheduler`.
    Ddim,
    /// Multistep consistency sampling (Luo et al. 2023), for `LCMScheduler`.
    LatentConsistency,
}

/// How the predicted clean latent is clipped at each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clip {
    /// Not at all.
    Never,
    /// To plus or minus this value.
    Range(f64),
    /// Dynamic thresholding (Saharia et al. 2022, section 2.3): the latent is clipped to a quantile of its absolute
    /// values and divided by it.
    Dynamic {
        /// The quantile, 0 to 1.
        quantile: f64,
        /// The largest threshold; the smallest is 1.
        most: f64,
    },
}

/// The fields that only generation reads.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingConfig {
    /// The sampler.
    pub sampler: SamplerKind,
    /// The offset of DDIM's timesteps with `leading` spacing.
    pub steps_offset: i64,
    /// How predicted clean latents are clipped.
    pub clip: Clip,
    /// Whether the last step goes to `ᾱ = 1` instead of the `ᾱ` of timestep 0.
    pub alpha_to_one: bool,
    /// Number of steps of the schedule that a latent consistency model was distilled with.
    pub original_steps: i64,
    /// Factor of timesteps in the boundary conditions of latent consistency models.
    pub timestep_scaling: f64,
}

impl Default for SamplingConfig {
    /// The defaults of absent fields.
    fn default() -> Self {
        SamplingConfig {
            sampler: SamplerKind::Ddim,
            steps_offset: PIPELINE_OFFSET,
            clip: Clip::Never,
            alpha_to_one: true,
            original_steps: 50,
            timestep_scaling: 10.0,
        }
    }
}

/// The fields of `scheduler_config.json` that determine a DDIM schedule. Other schedulers' files have them too.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// `T`, number of timesteps of training.
    pub train_timesteps: i64,
    /// `β` of the first timestep.
    pub beta_start: f64,
    /// `β` of the last timestep.
    pub beta_end: f64,
    /// The variances between them.
    pub betas: BetaSchedule,
    /// What the network predicts.
    pub prediction: Prediction,
    /// How the timesteps of a run are chosen.
    pub spacing: Spacing,
    /// The offset of timesteps with `leading` spacing.
    pub steps_offset: i64,
    /// Whether the variances are rescaled so that the last timestep is pure noise.
    pub zero_terminal_snr: bool,
    /// The fields that only generation reads.
    pub sampling: SamplingConfig,
}

impl SchedulerConfig {
    /// Reads the configuration of a scheduler of this class. Absent variances take the defaults of the class, other
    /// absent fields DDIM's, as when diffusers reads another scheduler's file.
    ///
    /// `pipeline` is the offset of pipelines that override offset and clipping of the file.
    ///
    /// # Errors
    /// `Checkpoint`, naming the field, if a value is malformed or not supported.
    pub fn read(config: &Json, class: Option<&str>, pipeline: Option<i64>) -> Result<Self> {
        let BetaDefaults { start, end, layout } = beta_defaults(config, class)?;
        let consistency = class == Some("LCMScheduler");
        config.not_null(&["set_alpha_to_one"])?;
        let betas = match config.optional::<Vec<f64>>("trained_betas")? {
            Some(betas) => BetaSchedule::Given(betas),
            None => match config.or("beta_schedule", layout.to_owned())?.as_str() {
                "linear" => BetaSchedule::Linear,
                "scaled_linear" => BetaSchedule::ScaledLinear,
                "squaredcos_cap_v2" => BetaSchedule::SquaredCosine,
                other => {
                    return Err(config.error("beta_schedule", &format!("is {other:?}, which is not supported")));
                }
            },
        };
        let prediction = config.or("prediction_type", "epsilon".to_owned())?;
        let known = Prediction::from_name(&prediction).filter(|known| *known != Prediction::Flow);
        let prediction = known.ok_or_else(|| {
            config.error("prediction_type", &format!("is {prediction:?}; expected \"epsilon\" or \"v_prediction\""))
        })?;
        let spacing = match config.or("timestep_spacing", "leading".to_owned())?.as_str() {
            "leading" => Spacing::Leading,
            "trailing" => Spacing::Trailing,
            "linspace" => Spacing::Linspace,
            other => {
                return Err(config.error("timestep_spacing", &format!("is {other:?}, which is not supported")));
            }
        };
        let schedule = SchedulerConfig {
            train_timesteps: config.positive("num_train_timesteps", Some(1000))?,
            beta_start: config.or("beta_start", start)?,
            beta_end: config.or("beta_end", end)?,
            prediction,
            spacing,
            steps_offset: config.or("steps_offset", 0)?,
            zero_terminal_snr: config.or("rescale_betas_zero_snr", false)?,
            sampling: sampling(
                config,
                if consistency { SamplerKind::LatentConsistency } else { SamplerKind::Ddim },
                pipeline,
            )?,
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
        let SamplingConfig { sampler, original_steps, .. } = schedule.sampling;
        if sampler == SamplerKind::LatentConsistency && original_steps > schedule.train_timesteps {
            return Err(config.error("original_inference_steps", &format!("is {original_steps}, outside the schedule")));
        }
        Ok(schedule)
    }
}

/// The `steps_offset` with which diffusers' Stable Diffusion pipeline overrides that of the file.
pub const PIPELINE_OFFSET: i64 = 1;

fn sampling(config: &Json, sampler: SamplerKind, pipeline: Option<i64>) -> Result<SamplingConfig> {
    let ddim = sampler == SamplerKind::Ddim;
    let (offset, spacing) = (config.or("steps_offset", 0)?, config.or("timestep_spacing", "leading".to_owned())?);
    if let Some(taken) = pipeline.filter(|&taken| ddim && offset != taken && spacing == "leading") {
        config.warn(&format!(
            "steps_offset is {offset}; images are generated with {taken}, as by diffusers' StableDiffusionPipeline"
        ));
    }
    let default = SamplingConfig::default();
    let finite = |field: &str, default: f64, least: f64, most: f64| {
        let value = config.or(field, default)?;
        let expected = || config.error(field, &format!("is {value}; expected {least} to {most}"));
        if (least..=most).contains(&value) { Ok(value) } else { Err(expected()) }
    };
    let clip = if config.or("thresholding", false)? {
        Clip::Dynamic {
            quantile: finite("dynamic_thresholding_ratio", 0.995, 0.0, 1.0)?,
            most: finite("sample_max_value", 1.0, 1.0, 1e6)?,
        }
    } else if config.or("clip_sample", false)? && ddim && pipeline.is_some() {
        // Latents are not bounded.
        config.warn("clip_sample is true; it is taken for false, as by diffusers' StableDiffusionPipeline");
        Clip::Never
    } else if config.or("clip_sample", false)? {
        Clip::Range(finite("clip_sample_range", 1.0, 0.0, 1e6)?)
    } else {
        Clip::Never
    };
    Ok(SamplingConfig {
        sampler,
        steps_offset: pipeline.unwrap_or(offset),
        clip,
        alpha_to_one: config.or("set_alpha_to_one", default.alpha_to_one)?,
        original_steps: config.positive("original_inference_steps", Some(default.original_steps))?,
        timestep_scaling: finite("timestep_scaling", default.timestep_scaling, 0.0, 1e6)?,
    })
}
