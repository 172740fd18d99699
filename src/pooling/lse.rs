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
