use tch::Tensor;

/// Eq. 4: `f(A) = 1/n Σ_i 1/λ log Σ_j exp(λ A_ij)`, the maximum subtracted before the exponential.
pub fn pool(map: &Tensor, lambda: f64) -> Tensor {
    let rows = (map * lambda).logsumexp(-1, false);
    rows.mean_dim(-1, false, None) / lambda
}

/// `∂f/∂A_ij = 1/n softmax_j(λ A_ij)`.
pub fn gradient(map: &Tensor, lambda: f64) -> Tensor {
    let n = map.size()[map.dim() - 2] as f64;
    (map * lambda).softmax(-1, None) / n
}

/// `1/n softmax_j(λ A_ij) · 1/λ log Σ_k exp(λ A_ik)`: the row's value, by the softmax.
///
/// It is the same as `1/n r (A_ij − 1/λ log r)` with `r` the softmax: an entry's own weighted value and its part of the
/// row's entropy.
pub fn shares(map: &Tensor, lambda: f64) -> Tensor {
    gradient(map, lambda) * (map * lambda).logsumexp(-1, true) / lambda
}
