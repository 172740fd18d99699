//! A map `[…, n, m]` becomes a number, Eq. 4 and the ablations of Table 3, each with its gradient in closed form. Maps come
//! in float32; numbers are float64, since candidates may differ by less than float32 tells apart. Where no more of a map is
//! used than Eq. 4 of its rows, [`attend`] computes that without forming the map.

mod fused;
mod lse;
mod max;
mod mean;

use tch::Tensor;

pub use fused::{FusedPooling, PooledAttention, Qkv, attend, ranges};

use crate::config::Pooling;

/// `f(A)`: maps `[…, n, m]` to numbers `[…]`, float64. `lambda` is used by LogSumExp alone.
pub fn pool(map: &Tensor, pooling: Pooling, lambda: f64) -> Tensor {
    excess(map, pooling, lambda) + constant(pooling, lambda, tokens_of(map))
}

/// `f(A)` without the part that [`constant`] tells, which grows as `1/λ` and would leave no digits for the rest.
pub fn excess(map: &Tensor, pooling: Pooling, lambda: f64) -> Tensor {
    match pooling {
        Pooling::Lse => lse::excess(map, lambda),
        Pooling::MaxRow => max::pool_rows(map),
        Pooling::MaxCol => max::pool_columns(map),
        Pooling::Mean => mean::pool(map),
    }
}

/// What `f(A)` holds for every map of `m` tokens: `log(m)/λ` of LogSumExp, 0 of the others.
pub fn constant(pooling: Pooling, lambda: f64, m: usize) -> f64 {
    if pooling == Pooling::Lse { lse::constant(lambda, m) } else { 0.0 }
}

/// `∂f/∂A_ij`, of the shape and the kind of the map.
pub fn gradient(map: &Tensor, pooling: Pooling, lambda: f64) -> Tensor {
    match pooling {
        Pooling::Lse => lse::gradient(map, lambda),
        Pooling::MaxRow => max::gradient_rows(map),
        Pooling::MaxCol => max::gradient_columns(map),
        Pooling::Mean => mean::gradient(map),
    }
}

/// What each entry of a map adds to `f(A)`, of the shape of the map: `Σ_ij shares_ij = f(A)`.
///
/// A maximum belongs to the entry that attains it, in equal parts where several do; the mean to all entries by their
/// value; LogSumExp is split within each row by the softmax whose gradient it has.
pub fn shares(map: &Tensor, pooling: Pooling, lambda: f64) -> Tensor {
    shares_beside(map, pooling, lambda, constant(pooling, lambda, tokens_of(map)))
}

/// The same of the excess and a `constant`, as a score has it.
pub fn shares_beside(map: &Tensor, pooling: Pooling, lambda: f64, constant: f64) -> Tensor {
    match pooling {
        Pooling::Lse => lse::shares(map, lambda, constant),
        Pooling::MaxRow | Pooling::MaxCol | Pooling::Mean => map * gradient(map, pooling, lambda),
    }
}

fn tokens_of(map: &Tensor) -> usize {
    map.size()[map.dim() - 1] as usize
}
