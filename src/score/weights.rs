//! The head weights of one pair at every time, for display (Figure 4).

use tch::Tensor;

use super::plan::Evaluation;
use super::{Request, ScoringContext, encode};
use crate::Result;
use crate::config::{Heads, Method, ScoreConfig};
use crate::model::{Model, is_finite};

/// See [`Model::head_weights`].
pub fn head_weights(model: &Model, request: &Request, config: &ScoreConfig) -> Result<Vec<(String, Tensor)>> {
    let config = &ScoreConfig { method: Method::Attention, heads: Heads::Attributed, ..config.clone() };
    let encoded = &encode(model, request, config)?;
    let context = ScoringContext::new(model, config, encoded);
    let mut by_layer: Vec<Vec<Tensor>> = model.layers().iter().map(|_| vec![]).collect();
    for step in 0..encoded.times.len() {
        let evaluation = Evaluation { image: 0, text: 0, step };
        let weights = context.attribute(&[evaluation])?;
        if weights.iter().flatten().any(|weights| !is_finite(weights)) {
            return Err(context.diagnose(evaluation));
        }
        for (layer, weights) in by_layer.iter_mut().zip(weights) {
            layer.extend(weights);
        }
    }
    let named = model.layers().iter().zip(by_layer).filter(|(_, weights)| !weights.is_empty());
    Ok(named.map(|(layer, weights)| (layer.name.clone(), Tensor::cat(&weights, 0))).collect())
}
