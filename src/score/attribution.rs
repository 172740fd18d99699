//! Eq. 7, `Attr_h(A) = A_h ⊙ ∂f/∂A_h`, with the gradient of the layer's own pooled score `f = 1/H Σ_h f(A_h)` in closed
//! form. Training treats these gradients as constants: they are weights and are not differentiated again.

use tch::{Kind, Tensor};

use crate::config::Pooling;
use crate::pooling;

/// The attributed maps, float64, of the shape of `map` `[B, H, n, m]`. Float32 would lose small entries in their sums.
pub fn elementwise(map: &Tensor, how: Pooling, lambda: f64) -> Tensor {
    let heads = map.size()[1] as f64;
    let map = &map.to_kind(Kind::Double);
    map * (pooling::gradient(&map.detach(), how, lambda) / heads)
}

/// One non-negative weight per head `[B, H]`, from the gradient of the layer's own score.
pub fn head_weights(map: &Tensor, how: Pooling, lambda: f64) -> Tensor {
    weights_of(&elementwise(&map.detach(), how, lambda))
}

/// `w_h ∝ mean_ij |Attr_h(A)|` `[B, H]`, with mean 1 over the heads, from attributed maps `[B, H, n, m]`.
pub fn weights_of(attributed: &Tensor) -> Tensor {
    shares(&attributed.abs().mean_dim([-2, -1].as_slice(), false, Kind::Double))
}

/// Strengths `[B, H]` divided by their mean over heads, float64, so that the mean weight is exactly 1.
pub fn shares(strength: &Tensor) -> Tensor {
    let strength = &strength.to_kind(Kind::Double);
    let mean = strength.mean_dim(-1, true, None);
    // A map of zeros attributes nothing to any head: its heads are weighted equally. NaN stays NaN.
    let uniform = strength.ones_like();
    let weights = strength / &mean;
    weights.where_self(&mean.not_equal(0.0), &uniform)
}
