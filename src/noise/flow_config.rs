use serde_json::json;

use crate::checkpoint::Json;
use crate::{Error, Result};

/// The fields of the `scheduler_config.json` of a `FlowMatchEulerDiscreteScheduler`.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowConfig {
    /// `T`, the network's time for noise alone.
    pub train_timesteps: i64,
    /// How the noise levels of a run are shifted.
    pub shift: Shift,
    /// The noise level of a run's last step, to which all are stretched.
    pub terminal: Option<f64>,
}

/// The shift `s` of the noise levels of a run, `σ' = s σ / (1 + (s − 1) σ)` (Esser et al. 2024, section 5.3.2).
#[derive(Debug, Clone, PartialEq)]
pub enum Shift {
    /// The same for all images.
    Fixed(f64),
    /// By the size of the image.
    Dynamic(DynamicShift),
}

/// A shift that depends on the number of image tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct DynamicShift {
    /// Two numbers of image tokens.
    pub tokens: [i64; 2],
    /// `μ` at these; it is on the line through both.
    pub mu: [f64; 2],
    /// Whether the shift is `e^μ` or `μ` itself.
    pub exponential: bool,
    /// Rows and columns of latent pixels in an image token.
    pub patch_size: i64,
}

impl DynamicShift {
    /// The shift for latents of this height and width.
    ///
    /// # Errors
    /// `Config` if it is not above 0.
    pub fn shift(&self, [height, width]: [i64; 2]) -> Result<f64> {
        let tokens = (height / self.patch_size) * (width / self.patch_size);
        let slope = (self.mu[1] - self.mu[0]) / (self.tokens[1] - self.tokens[0]) as f64;
        let mu = tokens as f64 * slope + (self.mu[0] - slope * self.tokens[0] as f64);
        let shift = if self.exponential { mu.exp() } else { mu };
        if shift > 0.0 && shift.is_finite() {
            return Ok(shift);
        }
        Err(Error::Config(format!("images of {tokens} tokens have a shift of {shift} by this model's scheduler")))
    }
}

impl FlowConfig {
    /// The scheduler's class.
    pub const CLASS: &str = "FlowMatchEulerDiscreteScheduler";

    /// Reads a configuration; `patch_size` is that of the network, if it has patches.
    ///
    /// # Errors
    /// `Checkpoint`, naming the field, if a value is malformed or not supported.
    pub fn read(config: &Json, patch_size: Option<i64>) -> Result<Self> {
        config.only("prediction_type", &[json!("flow_prediction")])?;
        let switches =
            ["invert_sigmas", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "stochastic_sampling"];
        for field in switches {
            config.only(field, &[json!(false)])?;
        }
        let terminal = config.optional::<f64>("shift_terminal")?.filter(|terminal| *terminal != 0.0);
        if let Some(terminal) = terminal.filter(|terminal| !(0.0..1.0).contains(terminal)) {
            return Err(config.error("shift_terminal", &format!("is {terminal}; expected 0 to below 1")));
        }
        let shift = match config.or("use_dynamic_shifting", false)? {
            true => Shift::Dynamic(dynamic(config, patch_size)?),
            false => Shift::Fixed(above_zero(config, "shift", 1.0)?),
        };
        Ok(FlowConfig { train_timesteps: config.positive("num_train_timesteps", Some(1000))?, shift, terminal })
    }
}

fn dynamic(config: &Json, patch_size: Option<i64>) -> Result<DynamicShift> {
    let patch_size = patch_size.ok_or_else(|| {
        let what = "is true, which is not supported: it counts patches, and this model's network has none";
        config.error("use_dynamic_shifting", what)
    })?;
    let exponential = match config.or("time_shift_type", "exponential".to_owned())?.as_str() {
        "exponential" => true,
        "linear" => false,
        other => {
            let what = format!("is {other:?}; expected \"exponential\" or \"linear\"");
            return Err(config.error("time_shift_type", &what));
        }
    };
    let mu = |field: &str, default: f64| match exponential {
        true => config.or(field, default),
        false => above_zero(config, field, default),
    };
    let tokens = [config.positive("base_image_seq_len", Some(256))?, config.positive("max_image_seq_len", Some(4096))?];
    if tokens[0] == tokens[1] {
        return Err(config.error("max_image_seq_len", "is base_image_seq_len; two points make a line"));
    }
    Ok(DynamicShift { tokens, mu: [mu("base_shift", 0.5)?, mu("max_shift", 1.15)?], exponential, patch_size })
}

fn above_zero(config: &Json, field: &str, default: f64) -> Result<f64> {
    match config.or(field, default)? {
        value if value > 0.0 => Ok(value),
        value => Err(config.error(field, &format!("is {value}; expected above 0"))),
    }
}
