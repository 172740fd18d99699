//! LogSumExp pooling.

use tch::{Kind, Tensor};

/// Eq. 4 without its constant: `1/n Σ_i 1/λ log(1/m Σ_j exp(λ A_ij))`, float64. The maximum is subtracted before the
/// exponential.
///
/// For a small `λ` that is `mean + λ/2 variance`. `expm1` and `log1p` preserve the second term, which a sum of
/// exponentials would lose to rounding next to `m`.
pub fn excess(map: &Tensor, lambda: f64) -> Tensor {
    rows(&map.to_kind(Kind::Double), lambda).mean_dim([-2, -1].as_slice(), false, None)
}

/// The constant of Eq. 4 for rows of `m` tokens, `log(m)/λ`.
pub fn constant(lambda: f64, m: usize) -> f64 {
    (m as f64).ln() / lambda
}

/// `∂f/∂A_ij = 1/n softmax_j(λ A_ij)`.
pub fn gradient(map: &Tensor, lambda: f64) -> Tensor {
    let n = map.size()[map.dim() - 2] as f64;
    // The maximum is subtracted before the product, so that a large λ does not amplify rounding errors.
    ((map - map.amax(-1, true)) * lambda).softmax(-1, None) / n
}

/// `1/n softmax_j(λ A_ij) · 1/λ log Σ_k exp(λ A_ik)`: the row's value, distributed by the softmax. `constant` replaces
/// the `log(m)/λ` in the value.
///
/// It is the same as `1/n r (A_ij − 1/λ log r)` with `r` the softmax: an entry's own weighted value and its part of the
/// row's entropy.
pub fn shares(map: &Tensor, lambda: f64, constant: f64) -> Tensor {
    gradient(map, lambda) * (rows(map, lambda) + constant)
}

/// Rows `[…, n, m]` to `1/λ log(1/m Σ_j exp(λ A_ij))`, `[…, n, 1]`.
fn rows(map: &Tensor, lambda: f64) -> Tensor {
    let top = map.detach().amax(-1, true);
    ((map - &top) * lambda).expm1().mean_dim(-1, true, None).log1p() / lambda + top
}
