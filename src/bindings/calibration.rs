use std::collections::BTreeMap;

use numpy::{PyReadonlyArray1, PyReadonlyArray2};

use super::config::ScoreConfig;
use crate::score::Calibration;

/// Weights of a score from arrays: `[steps, H]` by layer, and `[steps]` of the denoising term.
pub fn calibration(
    config: &ScoreConfig,
    layers: &BTreeMap<String, PyReadonlyArray2<'_, f64>>,
    denoising: Option<&PyReadonlyArray1<'_, f64>>,
) -> Calibration {
    let rows =
        |weights: &PyReadonlyArray2<'_, f64>| weights.as_array().rows().into_iter().map(|row| row.to_vec()).collect();
    Calibration {
        config: config.get().clone(),
        layers: layers.iter().map(|(name, weights)| (name.clone(), rows(weights))).collect(),
        denoising: denoising.map(|weights| weights.as_array().to_vec()),
    }
}
