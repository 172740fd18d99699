//! Stage 6: a map `[…, n, m]` becomes a number, Eq. 4 and the ablations of Table 3, each with its gradient in closed
//! form. Maps come in float32; what is computed keeps the kind of the map.

mod lse;
mod max;
mod mean;

use tch::Tensor;

use crate::config::Pooling;

/// `f(A)`: maps `[…, n, m]` to numbers `[…]`. `lambda` is used by LogSumExp alone.
pub fn pool(map: &Tensor, pooling: Pooling, lambda: f64) -> Tensor {
    match pooling {
        Pooling::Lse => lse::pool(map, lambda),
        Pooling::MaxRow => max::pool_rows(map),
        Pooling::MaxCol => max::pool_columns(map),
        Pooling::Mean => mean::pool(map),
    }
}

/// `∂f/∂A_ij`, of the shape of the map.
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
    match pooling {
        Pooling::Lse => lse::shares(map, lambda),
        Pooling::MaxRow | Pooling::MaxCol | Pooling::Mean => map * gradient(map, pooling, lambda),
    }
}
