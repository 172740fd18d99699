//! The attention score plus the weighted denoising score; weight 1 is the authors' released code.

use super::{Coefficients, attention, denoising};
use crate::config::ScoreConfig;

pub fn coefficients(config: &ScoreConfig) -> Coefficients {
    let denoising = denoising::coefficients(config).weighed(config.denoising_weight);
    Coefficients { attention: attention::coefficients().attention, ..denoising }
}
