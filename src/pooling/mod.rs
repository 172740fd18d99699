//! Pooling of a map `[…, n, m]` to a number: Eq. 4 and the ablations of Table 3, each with its gradient in closed form.
//! Maps are float32; pooled numbers are float64, since candidates may differ by less than the precision of float32. If
//! only Eq. 4 of a map is needed, [`attend`] computes it without materialising the map.

mod fused;
mod joint;
mod lse;
mod max;
mod mean;

use tch::Tensor;

pub use fused::{FusedPooling, PooledAttention, Qkv, attend, ranges};
pub use joint::{attend_part, attend_with_lse};

use crate::config::Pooling;

/// `f(A)`: maps `[…, n, m]` to numbers `[…]`, float64. Only LogSumExp uses `lambda`.
pub fn pool(map: &Tensor, pooling: Pooling, lambda: f64) -> Tensor {
    excess(map, pooling, lambda) + constant(pooling, lambda, tokens_of(map))
}

/// `f(A)` without [`constant`], float64 `[…]`. The constant grows as `1/λ`; added to it, the rest would lose its
/// digits.
pub fn excess(map: &Tensor, pooling: Pooling, lambda: f64) -> Tensor {
    match pooling {
        Pooling::Lse => lse::excess(map, lambda),
        Pooling::MaxRow => max::pool_rows(map),
        Pooling::MaxCol => max::pool_columns(map),
        Pooling::Mean => mean::pool(map),
    }
}

/// The part of `f(A)` that is the same for all maps with `m` columns: `log(m)/λ` for LogSumExp, 0 for the others.
pub fn constant(pooling: Pooling, lambda: f64, m: usize) -> f64 {
    if pooling == Pooling::Lse { lse::constant(lambda, m) } else { 0.0 }
}

/// `∂f/∂A_ij`, in the shape and the type of the map.
pub fn gradient(map: &Tensor, pooling: Pooling, lambda: f64) -> Tensor {
    match pooling {
        Pooling::Lse => lse::gradient(map, lambda),
        Pooling::MaxRow => max::gradient_rows(map),
        Pooling::MaxCol => max::gradient_columns(map),
        Pooling::Mean => mean::gradient(map),
    }
}

/// The contribution of each entry of a map to `f(A)`, in the shape of the map: `Σ_ij shares_ij = f(A)`.
///
/// A maximum is attributed to the entry that attains it, in equal parts if several do; the mean to all entries in
/// proportion to their value; LogSumExp within each row in proportion to the softmax that is its gradient.
pub fn shares(map: &Tensor, pooling: Pooling, lambda: f64) -> Tensor {
    shares_beside(map, pooling, lambda, constant(pooling, lambda, tokens_of(map)))
}

/// [`shares`] of the excess plus a given `constant`, which may differ from [`constant()`].
pub fn shares_beside(map: &Tensor, pooling: Pooling, lambda: f64, constant: f64) -> Tensor {
    match pooling {
        Pooling::Lse => lse::shares(map, lambda, constant),
        Pooling::MaxRow | Pooling::MaxCol | Pooling::Mean => map * gradient(map, pooling, lambda),
    }
}

fn tokens_of(map: &Tensor) -> usize {
    map.size()[map.dim() - 1] as usize
}
