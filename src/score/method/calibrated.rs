//! The sum of attention and denoising terms with the weights of a calibration, which are applied to heads and times.

use super::{Coefficients, denoising};
use crate::config::ScoreConfig;
use crate::model::Calibration;

pub fn coefficients(config: &ScoreConfig, calibration: Option<&Calibration>) -> Coefficients {
    let has = |part: fn(&Calibration) -> bool| if calibration.is_some_and(part) { 1.0 } else { 0.0 };
    let denoising = denoising::coefficients(config).weighed(has(|calibration| calibration.denoising.is_some()));
    Coefficients { attention: has(|calibration| !calibration.layers.is_empty()), ..denoising }
}
