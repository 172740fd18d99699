//! Attention, and products of queries and keys, which are in float32 whatever the type of their inputs.

use tch::{Kind, Tensor};

/// Vectors `[…, d]` of length 1 in float32, whose products are cosines; 0 where a vector is null.
pub fn unit(x: &Tensor) -> Tensor {
    let x = x.to_kind(Kind::Float);
    // Clamped before the root, whose gradient at 0 is infinite.
    &x / x.square().sum_dim_intlist(-1, true, None).clamp_min(LEAST_SQUARE).sqrt()
}

/// The lower bound of the square of a length.
const LEAST_SQUARE: f64 = 1e-24;

/// `1/√d` of queries `[B, H, n, d]`, the factor of `QKᵀ`.
pub fn scale(q: &Tensor) -> f64 {
    (q.size()[3] as f64).powf(-0.5)
}

/// `softmax(QKᵀ/√d) V` `[B, H, n, d]` by libtorch's fused attention.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    Tensor::scaled_dot_product_attention::<Tensor>(q, k, v, None, 0.0, false, None, false)
}

/// `scale · QKᵀ` `[B, H, n, m]` in float32.
pub fn scores(q: &Tensor, k: &Tensor, scale: f64) -> Tensor {
    (q.to_kind(Kind::Float) * scale).matmul(&k.to_kind(Kind::Float).transpose(-1, -2))
}

/// The inverse lengths `[…]` of vectors `[…, d]`, in float32.
pub fn inverse_length(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Float).square().sum_dim_intlist(-1, false, Kind::Float).clamp_min(LEAST_SQUARE).rsqrt()
}
