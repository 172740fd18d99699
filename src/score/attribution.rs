//! Eq. 7, `Attr_h(A) = A_h ⊙ ∂f/∂A_h`, with the gradient of the layer's own pooled score `f = 1/H Σ_h f(A_h)` in
//! closed form. Gradients are constants to training: they weigh, and are not differentiated again.

use tch::{Kind, Tensor};

use crate::config::Pooling;
use crate::pooling;

/// The attributed maps, of the shape of `map` `[B, H, n, m]`.
pub fn elementwise(map: &Tensor, how: Pooling, lambda: f64) -> Tensor {
    let heads = map.size()[1] as f64;
    map * (pooling::gradient(&map.detach(), how, lambda) / heads)
}

/// One non-negative weight a head `[B, H]`, by the local gradient.
pub fn head_weights(map: &Tensor, how: Pooling, lambda: f64) -> Tensor {
    weights_of(&elementwise(&map.detach(), how, lambda))
}

/// `w_h ∝ mean_ij |Attr_h(A)|` `[B, H]`, with mean 1 over the heads, from attributed maps `[B, H, n, m]`.
pub fn weights_of(attributed: &Tensor) -> Tensor {
    shares(&attributed.abs().mean_dim([-2, -1].as_slice(), false, Kind::Float))
}

/// Strengths `[B, H]` in parts of their mean.
pub fn shares(strength: &Tensor) -> Tensor {
    let mean = strength.mean_dim(-1, true, None);
    // A map of zeros attributes nothing to any head; the plain mean is what is left.
    let uniform = strength.ones_like();
    let weights = strength / &mean;
    weights.where_self(&mean.gt(0.0), &uniform)
}
