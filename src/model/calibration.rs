//! Weights of the numbers that a score is made of, found from labelled pairs.

use std::collections::BTreeMap;

use crate::config::{Heads, Method, ScoreConfig, Truncate};
use crate::deltas::AttentionLayer;
use crate::{Error, Result};

/// Weights of heads, layers, times and denoising terms, for one configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// The configuration that the weights belong to.
    pub config: ScoreConfig,
    /// For each scored layer by name, the weight of each head at each time, `[steps][H]`; empty without attention.
    pub layers: BTreeMap<String, Vec<Vec<f64>>>,
    /// The weight of the denoising term at each time, `[steps]`; `None` without one.
    pub denoising: Option<Vec<f64>>,
}

impl Calibration {
    /// Refuses weights that do not fit a model with these layers, or `steps` times.
    ///
    /// # Errors
    /// `Config`, naming what does not fit.
    pub fn check(&self, layers: &[AttentionLayer], chosen: &[bool], steps: usize) -> Result<()> {
        if self.config.method != Method::Calibrated || self.config.heads != Heads::Mean {
            return Err(Error::Config(
                "a calibration's configuration has the method \"calibrated\" and the heads \"mean\"".into(),
            ));
        }
        if self.layers.is_empty() && self.denoising.is_none() {
            return Err(Error::Config("a calibration without weights of attention or of the denoising term".into()));
        }
        let of_model = |name: &str| layers.iter().position(|layer| layer.name == name);
        for (name, weights) in &self.layers {
            let heads = of_model(name).map(|place| layers[place].heads as usize);
            let Some(heads) = heads else {
                return Err(Error::Config(format!("a calibration of the layer {name:?}, which this model lacks")));
            };
            if weights.len() != steps || weights.iter().any(|of_step| of_step.len() != heads) {
                return Err(Error::Config(format!(
                    "a calibration of {name} is not {steps} steps by {heads} heads, as its configuration and the model \
                     have"
                )));
            }
        }
        let unweighed =
            layers.iter().zip(chosen).find(|(layer, chosen)| **chosen && !self.layers.contains_key(&layer.name));
        if let (false, Some((layer, _))) = (self.layers.is_empty(), unweighed) {
            return Err(Error::Config(format!("a calibration without weights of {}, which is scored", layer.name)));
        }
        if self.denoising.as_ref().is_some_and(|weights| weights.len() != steps) {
            return Err(Error::Config(format!("a calibration of the denoising term is not of {steps} steps")));
        }
        let numbers = self.layers.values().flatten().flatten().chain(self.denoising.iter().flatten());
        if numbers.into_iter().any(|weight| !weight.is_finite()) {
            return Err(Error::Config("a calibration with weights that are not finite".into()));
        }
        Ok(())
    }

    /// Refuses a configuration that the weights do not belong to.
    ///
    /// # Errors
    /// `Config`, naming the option.
    pub fn check_config(&self, config: &ScoreConfig) -> Result<()> {
        // None of these changes what the weights are of.
        let same = |config: &ScoreConfig| {
            let (prior, prior_weight) = (self.config.prior, self.config.prior_weight);
            ScoreConfig { batch_size: None, truncate: Truncate::Warn, seed: 0, prior, prior_weight, ..config.clone() }
                .to_fields()
        };
        let (given, own) = (same(config), same(&self.config));
        let names = ScoreConfig::options().iter().map(|option| option.name);
        match names.into_iter().find(|name| given.get(*name) != own.get(*name)) {
            Some(name) => {
                let shown = |fields: &crate::config::Fields| fields.get(name).cloned().unwrap_or_default();
                Err(Error::Config(format!(
                    "{name} is {}, but the calibration is of {}; calibrate again with other options",
                    shown(&given),
                    shown(&own)
                )))
            }
            None => Ok(()),
        }
    }

    /// The weight of the denoising term in the score of one step, of which the score is the mean.
    pub fn denoising_at(&self, step: usize) -> f64 {
        self.denoising.as_ref().map_or(0.0, |weights| weights[step] * weights.len() as f64)
    }
}
