//! The attention score plus the weighted denoising score; weight 1 is the authors' released code.

use super::{Coefficients, attention, denoising};
use crate::config::ScoreConfig;

pub fn coefficients(config: &ScoreConfig) -> Coefficients {
    let (attention, denoising) = (attention::coefficients(), denoising::coefficients(config));
    Coefficients {
        attention: attention.attention,
        error: config.denoising_weight * denoising.error,
        empty: config.denoising_weight * denoising.empty,
    }
}
