//! Head weights that are known before anything is scored: learned in training, or from a calibration.

use tch::Tensor;

use crate::config::{Heads, Method, ScoreConfig};
use crate::deltas::AttentionLayer;
use crate::device::upload;
use crate::model::{Calibration, Model};
use crate::{Error, Result};

/// The model's calibration, which a calibrated score needs.
///
/// # Errors
/// `Config` if there is none, or it is of another configuration.
pub fn calibration_of<'a>(model: &'a Model, config: &ScoreConfig) -> Result<&'a Calibration> {
    let calibration = model.calibration().ok_or_else(|| {
        Error::Config("method is \"calibrated\", but there is no calibration; Scorer.calibrate makes one".into())
    })?;
    calibration.check_config(config).map(|()| calibration)
}

/// The head weights `[steps, H]` of the chosen layers, from the model's calibration, float64. The score is a mean over
/// steps, layers and heads, and a calibration weighs a sum.
///
/// # Errors
/// `Config` if there is no calibration, or it is of another configuration.
pub fn calibrated_weights(model: &Model, config: &ScoreConfig, chosen: &[bool]) -> Result<Vec<Option<Tensor>>> {
    let calibration = calibration_of(model, config)?;
    let scored = chosen.iter().filter(|&&chosen| chosen).count();
    let of_layer = |(layer, &chosen): (&AttentionLayer, &bool)| {
        let weights = calibration.layers.get(&layer.name).filter(|_| chosen)?;
        let terms = (weights.len() * scored) as f64 * layer.heads as f64;
        let scaled: Vec<f64> = weights.iter().flatten().map(|weight| weight * terms).collect();
        Some(upload(&Tensor::from_slice(&scaled).view([weights.len() as i64, layer.heads]), model.device()))
    };
    Ok(model.layers().iter().zip(chosen).map(of_layer).collect())
}

/// The weight of the denoising term at each of a configuration's `steps` times: that of the model's calibration, or 1
/// where the score is not calibrated.
pub fn denoising_weights(model: &Model, config: &ScoreConfig, steps: usize) -> Vec<f64> {
    let calibration = model.calibration().filter(|_| config.method == Method::Calibrated);
    (0..steps).map(|step| calibration.map_or(1.0, |calibration| calibration.denoising_at(step))).collect()
}

/// The learned head weights `[H]` of the chosen layers, from the model's deltas; all `None` unless `heads` is
/// `learned`.
///
/// # Errors
/// `Config` if a chosen layer has none.
pub fn learned_weights(model: &Model, config: &ScoreConfig, chosen: &[bool]) -> Result<Vec<Option<Tensor>>> {
    if config.heads != Heads::Learned {
        return Ok(chosen.iter().map(|_| None).collect());
    }
    let known = model.deltas().and_then(|deltas| deltas.head_weights.as_ref());
    let of_layer = |(layer, &chosen): (&AttentionLayer, &bool)| {
        if !chosen {
            return Ok(None);
        }
        let weights = known.and_then(|known| known.get(&layer.name)).ok_or_else(|| {
            Error::Config(format!(
                "heads is \"learned\", but no head weights of {} are loaded; load deltas that were trained with this \
                 layer, or use \"mean\" or \"attributed\"",
                layer.name
            ))
        })?;
        let weights: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
        Ok(Some(Tensor::from_slice(&weights).to_device(model.device())))
    };
    model.layers().iter().zip(chosen).map(of_layer).collect()
}
