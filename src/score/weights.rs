//! Head weights of one pair, to look at (Figure 4).

use tch::Tensor;

use super::finite::is_finite;
use super::{Model, Request, Unit};
use crate::Result;
use crate::config::{Heads, Method, ScoreConfig};

impl Model {
    /// `w_h` by `config.attribution` for the request's first image and text: site names and `[steps, H]`.
    pub fn head_weights(&self, request: &Request, config: &ScoreConfig) -> Result<Vec<(String, Tensor)>> {
        let config = ScoreConfig { method: Method::Attention, heads: Heads::Attributed, ..config.clone() };
        let scene = self.scene(request, &config)?;
        let mut found: Vec<Vec<Tensor>> = self.sites().iter().map(|_| vec![]).collect();
        for step in 0..scene.timesteps.len() {
            let unit = Unit { image: 0, text: 0, step };
            let weights = scene.attribute(&[unit])?;
            if weights.iter().flatten().any(|weights| !is_finite(weights)) {
                return Err(scene.diagnose(unit));
            }
            for (site, weights) in found.iter_mut().zip(weights) {
                site.extend(weights);
            }
        }
        let named = self.sites().iter().zip(found).filter(|(_, weights)| !weights.is_empty());
        Ok(named.map(|(site, weights)| (site.name(), Tensor::cat(&weights, 0))).collect())
    }
}
