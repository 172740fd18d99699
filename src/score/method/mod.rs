//! What a score is made of. A method is a file here: it says which numbers of an evaluation it needs, and what each counts.
//!
//! Every method is linear in three numbers: the pooled attention, the error of the prediction with the text, and that
//! without. Scores of pairs, their explanation and the gradients of training all go by the same coefficients.

mod attention;
mod combined;
mod denoising;

use crate::config::{Method, ScoreConfig};

/// What the numbers of an evaluation count in a score; 0 is not needed at all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficients {
    /// Of the mean over layers of the pooled attention.
    pub attention: f64,
    /// Of how far the prediction with the text is from its target.
    pub error: f64,
    /// Of how far the prediction without a text is.
    pub empty: f64,
}

impl Coefficients {
    /// Those of a configuration.
    pub fn new(config: &ScoreConfig) -> Self {
        match config.method {
            Method::Attention => attention::coefficients(),
            Method::Denoising => denoising::coefficients(config),
            Method::Combined => combined::coefficients(config),
        }
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

    /// The score of its three numbers; those that are not needed may be anything.
    pub fn score(&self, attention: f64, error: f64, empty: f64) -> f64 {
        let term = |coefficient: f64, value: f64| if coefficient == 0.0 { 0.0 } else { coefficient * value };
        term(self.attention, attention) + self.denoising(error, empty)
    }

    /// The part of the score that errors make.
    pub fn denoising(&self, error: f64, empty: f64) -> f64 {
        // The difference first: it is small beside its two numbers.
        if self.empty != 0.0 {
            self.empty * (empty - error)
        } else if self.error != 0.0 {
            self.error * error
        } else {
            0.0
        }
    }
}
