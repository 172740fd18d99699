//! The default variances of diffusers' schedulers, by their class.

use serde_json::json;

use crate::Result;
use crate::checkpoint::Json;

/// The default variances of a class of schedulers.
pub struct BetaDefaults {
    pub start: f64,
    pub end: f64,
    pub layout: &'static str,
}

/// The default variances of a class. Refuses schedulers whose noise is not `z_t = √ᾱ_t z + √(1−ᾱ_t) ε` with `ᾱ` from
/// betas.
pub fn beta_defaults(config: &Json, class: Option<&str>) -> Result<BetaDefaults> {
    // The defaults of diffusers 0.42.
    let defaults = match class {
        Some(
            "DDIMScheduler"
            | "DDIMInverseScheduler"
            | "DDIMParallelScheduler"
            | "DDPMScheduler"
            | "DDPMParallelScheduler"
            | "PNDMScheduler"
            | "DPMSolverMultistepScheduler"
            | "DPMSolverMultistepInverseScheduler"
            | "DPMSolverSinglestepScheduler"
            | "DEISMultistepScheduler"
            | "UniPCMultistepScheduler"
            | "EulerDiscreteScheduler"
            | "EulerAncestralDiscreteScheduler"
            | "LMSDiscreteScheduler"
            | "SASolverScheduler"
            | "RePaintScheduler",
        ) => Some((0.0001, 0.02, "linear")),
        Some(
            "HeunDiscreteScheduler"
            | "KDPM2DiscreteScheduler"
            | "KDPM2AncestralDiscreteScheduler"
            | "DPMSolverSDEScheduler",
        ) => Some((0.00085, 0.012, "linear")),
        Some("LCMScheduler" | "TCDScheduler") => Some((0.00085, 0.012, "scaled_linear")),
        _ => None,
    };
    let other = |class: &str| {
        let markers = [
            "FlowMatch",
            "FlowMap",
            "EDM",
            "CosineDPM",
            "CMStochastic",
            "Consistency",
            "ScoreSde",
            "KarrasVe",
            "IPNDM",
            "VQDiffusion",
            "UnCLIP",
            "Wuerstchen",
            "CogVideoX",
            "Amused",
            "SCM",
            "LTX",
            "Helios",
            "PiFlow",
        ];
        markers.iter().any(|marker| class.contains(marker))
    };
    let refused = |class: &str| {
        let what = format!(
            "is {class:?}, whose noise follows another law than DDPM's; expected a scheduler with betas, such as \
             DDIMScheduler or EulerDiscreteScheduler, or FlowMatchEulerDiscreteScheduler"
        );
        Err(config.error("_class_name", &what))
    };
    let has_betas = config.optional::<serde_json::Value>("beta_schedule")?.is_some()
        || config.optional::<serde_json::Value>("trained_betas")?.is_some();
    let (start, end, layout) = match (defaults, class) {
        (None, Some(class)) if other(class) || !has_betas => return refused(class),
        (None, None) if !has_betas => {
            config.warn(
                "names neither a scheduler (_class_name) nor its variances (beta_schedule); DDIM's own are taken, linear from \
                 0.0001 to 0.02. Stable Diffusion was trained with scaled_linear from 0.00085 to 0.012",
            );
            (0.0001, 0.02, "linear")
        }
        (found, _) => found.unwrap_or((0.0001, 0.02, "linear")),
    };
    for flow in ["use_flow_sigmas", "use_dynamic_shifting"] {
        config.only(flow, &[json!(false)])?;
    }
    config.only("timestep_type", &[json!("discrete")])?;
    for field in ["sigma_data", "shift", "snr_shift_scale", "base_shift", "max_shift"] {
        config.only(field, &[])?;
    }
    Ok(BetaDefaults { start, end, layout })
}
