//! Eq. 7 by backpropagation: the gradient of the whole attention score through all layers behind a map.

use std::cell::RefCell;

use tch::{Kind, Tensor};

use super::ScoringContext;
use super::attribution::weights_of;
use super::inputs::Inputs;
use super::layer::layer_score;
use crate::Result;
use crate::config::{Heads, ScoreConfig};
use crate::denoiser::Capture;
use crate::runtime::gradients;

/// Head weights `[B, H]` of each scored layer from `A_h ⊙ ∂f/∂A_h`, where `f` is the mean over the scored layers of
/// their unweighted mean over heads.
pub fn full(context: &ScoringContext, inputs: &Inputs) -> Result<Vec<Option<Tensor>>> {
    let maps = RefCell::new(vec![]);
    // The first map becomes a leaf of the graph; later maps depend on it.
    let alter = |layer: usize, map: Tensor| {
        let map = if map.requires_grad() { map } else { map.detach().set_requires_grad(true) };
        maps.borrow_mut().push((layer, map.shallow_clone()));
        map
    };
    let score = run(context, inputs, &alter)?;
    let maps = maps.into_inner();
    let leaves: Vec<&Tensor> = maps.iter().map(|(_, map)| map).collect();
    let gradients = gradients(&score, &leaves)?;
    let mut weights = none(context);
    for ((layer, map), gradient) in maps.iter().zip(gradients) {
        weights[*layer] = Some(weights_of(&(map.detach() * gradient)));
    }
    Ok(weights)
}

/// Head weights as of [`full`], with the gradient averaged over the maps `α A` for `α = 1/k, 2/k … 1` (Hao et al. 2021,
/// Eq. 2). One layer at a time is scaled; later layers are computed from it.
pub fn integrated(context: &ScoringContext, inputs: &Inputs) -> Result<Vec<Option<Tensor>>> {
    let steps = context.config.attribution_steps;
    let mut weights = none(context);
    for layer in (0..inputs.layers.len()).filter(|&layer| inputs.layers[layer]) {
        let mut sum: Option<Tensor> = None;
        for step in 1..=steps {
            let alpha = step as f64 / steps as f64;
            let at = RefCell::new(None);
            let alter = |other: usize, map: Tensor| {
                if other != layer {
                    return map;
                }
                let scaled = (map.detach() * alpha).set_requires_grad(true);
                *at.borrow_mut() = Some((map, scaled.shallow_clone()));
                scaled
            };
            let score = run(context, inputs, &alter)?;
            let (map, scaled) = at.into_inner().expect("a wanted layer's map is formed");
            let gradient = gradients(&score, &[&scaled])?;
            let attributed = map.detach() * &gradient[0] / steps as f64;
            sum = Some(sum.map_or_else(|| attributed.shallow_clone(), |sum| sum + &attributed));
        }
        weights[layer] = sum.as_ref().map(weights_of);
    }
    Ok(weights)
}

/// `Σ_rows f`, with a graph that starts at the maps that `alter` turns into leaves.
fn run(context: &ScoringContext, inputs: &Inputs, alter: &dyn Fn(usize, Tensor) -> Tensor) -> Result<Tensor> {
    let plain = ScoreConfig { heads: Heads::Mean, ..context.config.clone() };
    let keep = |_: usize, map: &Tensor| layer_score(map, inputs.columns(), &plain, None);
    let capture = Capture { alter: Some(alter), ..Capture::maps(&inputs.layers, plain.map, &keep) };
    tch::with_grad(|| {
        let seen = context.model.denoiser().observe(
            &inputs.batch(context.encoded.cache.as_deref()),
            context.patch,
            &capture,
        )?;
        let layers: Vec<&Tensor> = seen.maps.iter().map(|(_, score)| score).collect();
        Ok(Tensor::stack(&layers, 0).mean_dim(0, false, None).sum(Kind::Double))
    })
}

fn none(context: &ScoringContext) -> Vec<Option<Tensor>> {
    context.encoded.chosen.iter().map(|_| None).collect()
}
