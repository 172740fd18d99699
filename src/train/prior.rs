//! The text prior in training: what a text scores with the null images at a drawn time, and how it depends on them.

use crate::config::Method;
use crate::score::log_mean_exp;

/// What is subtracted for a text at one time, unweighted.
pub struct TextPrior {
    /// The log-mean-exp of its scores with the null images; of a calibrated score their mean.
    pub value: f64,
    /// `∂ value / ∂ score` of each of them.
    pub gradient: Vec<f64>,
}

impl TextPrior {
    /// The prior of a text from its scores with the null images.
    pub fn new(scores: &[f64], method: Method) -> Self {
        let count = scores.len() as f64;
        if method == Method::Calibrated {
            return TextPrior { value: scores.iter().sum::<f64>() / count, gradient: vec![1.0 / count; scores.len()] };
        }
        let value = log_mean_exp(scores);
        TextPrior { value, gradient: scores.iter().map(|score| (score - value).exp() / count).collect() }
    }
}
