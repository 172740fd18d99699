//! Eq. 7, `Attr_h(A) = A_h ⊙ ∂f/∂A_h`, with the gradient of the layer's own pooled score `f = 1/H Σ_h f(A_h)` in
//! closed form. Gradients are constants to training: they weigh, and are not differentiated again.

use tch::{Kind, Tensor};

use crate::config::Pooling;
use crate::pooling;

/// The attributed maps, of the shape of `map` `[B, H, n, m]`; float64, since they are small beside each other's sums.
pub fn elementwise(map: &Tensor, how: Pooling, lambda: f64) -> Tensor {
    let heads = map.size()[1] as f64;
    let map = &map.to_kind(Kind::Double);
    map * (pooling::gradient(&map.detach(), how, lambda) / heads)
}

/// One non-negative weight a head `[B, H]`, by the local gradient.
pub fn head_weights(map: &Tensor, how: Pooling, lambda: f64) -> Tensor {
    weights_of(&elementwise(&map.detach(), how, lambda))
}

/// `w_h ∝ mean_ij |Attr_h(A)|` `[B, H]`, with mean 1 over the heads, from attributed maps `[B, H, n, m]`.
pub fn weights_of(attributed: &Tensor) -> Tensor {
    shares(&attributed.abs().mean_dim([-2, -1].as_slice(), false, Kind::Double))
}

/// Strengths `[B, H]` in parts of their mean, float64: what all heads have in common is weighed by 1 and by no less.
pub fn shares(strength: &Tensor) -> Tensor {
    let strength = &strength.to_kind(Kind::Double);
    let mean = strength.mean_dim(-1, true, None);
    // A map of zeros attributes nothing to any head; the plain mean is what is left. What is no number stays none.
    let uniform = strength.ones_like();
    let weights = strength / &mean;
    weights.where_self(&mean.not_equal(0.0), &uniform)
}
