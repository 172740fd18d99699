//! By how much the text improves the prediction of the noise (DiffusionITM, Krojer et al. 2023), or the negative error
//! of the prediction with the text (Diffusion Classifier, Li et al. 2023).

use super::Coefficients;
use crate::config::ScoreConfig;

pub fn coefficients(config: &ScoreConfig) -> Coefficients {
    Coefficients { attention: 0.0, error: -1.0, empty: if config.unconditional { 1.0 } else { 0.0 } }
}
