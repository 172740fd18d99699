//! Eq. 7, `Attr_h(A) = A_h ⊙ ∂f/∂A_h`, with the gradient of the layer's own pooled score `f = 1/H Σ_h f(A_h)`.

use tch::{Kind, Tensor};

use crate::config::Pooling;
use crate::pooling;

/// The attributed maps, of the shape of `map` `[H, n, m]`.
pub fn elementwise(map: &Tensor, how: Pooling, lambda: f64) -> Tensor {
    let heads = map.size()[0] as f64;
    map * pooling::gradient(map, how, lambda) / heads
}

/// One non-negative weight a head `[H]`: `w_h ∝ mean_ij |Attr_h(A)|`, with mean 1 over the heads.
pub fn head_weights(map: &Tensor, how: Pooling, lambda: f64) -> Tensor {
    let strength = elementwise(map, how, lambda).abs().mean_dim([-2, -1].as_slice(), false, Kind::Float);
    let mean = strength.mean(None);
    // A map of zeros attributes nothing to any head; the plain mean is what is left.
    let uniform = strength.ones_like();
    let weights = &strength / &mean;
    weights.where_self(&mean.gt(0.0), &uniform)
}
