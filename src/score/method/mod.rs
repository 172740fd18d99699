//! The score methods, one file each. A method is a set of coefficients.
//!
//! Every method is linear in three numbers: the pooled attention, the error of the prediction with the text, and the
//! error of the prediction without it. Scores, explanations and training gradients all use the same coefficients.

mod attention;
mod calibrated;
mod combined;
mod denoising;

use crate::config::{Method, ScoreConfig};
use crate::model::Calibration;

/// The coefficients of an evaluation's numbers in the score. A number whose coefficient is 0 is not computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficients {
    /// The coefficient of the mean over layers of the pooled attention.
    pub attention: f64,
    /// The coefficient of the error of the prediction with the text.
    pub error: f64,
    /// The coefficient of the error of the prediction without a text.
    pub empty: f64,
}

impl Coefficients {
    /// The coefficients of the configured method; `calibration` is the model's.
    pub fn new(config: &ScoreConfig, calibration: Option<&Calibration>) -> Self {
        match config.method {
            Method::Attention => attention::coefficients(),
            Method::Denoising => denoising::coefficients(config),
            Method::Combined => combined::coefficients(config),
            Method::Calibrated => calibrated::coefficients(config, calibration),
        }
    }

    /// The coefficients with this weight of the denoising term.
    pub fn weighed(self, denoising: f64) -> Self {
        Coefficients { error: denoising * self.error, empty: denoising * self.empty, ..self }
    }

    /// Whether attention maps are needed.
    pub fn needs_maps(&self) -> bool {
        self.attention != 0.0
    }

    /// Whether the prediction is needed.
    pub fn needs_prediction(&self) -> bool {
        self.error != 0.0 || self.empty != 0.0
    }

    /// Whether the prediction without a text is needed.
    pub fn needs_empty(&self) -> bool {
        self.empty != 0.0
    }

    /// The score from its three numbers; numbers that are not needed are ignored, even NaN.
    pub fn score(&self, attention: f64, error: f64, empty: f64) -> f64 {
        let term = |coefficient: f64, value: f64| if coefficient == 0.0 { 0.0 } else { coefficient * value };
        term(self.attention, attention) + self.denoising(error, empty)
    }

    /// The denoising term of the score, from the errors with and without the text.
    pub fn denoising(&self, error: f64, empty: f64) -> f64 {
        // The difference is formed first: it is small compared with its two numbers.
        if self.empty != 0.0 {
            self.empty * (empty - error)
        } else if self.error != 0.0 {
            self.error * error
        } else {
            0.0
        }
    }
}
