//! Attention that pools its map instead of forming it.

use std::ops::Range;

use tch::{Device, Tensor};

use super::fused;
use crate::torch::shim;

/// How a map is to be pooled.
#[derive(Debug, Clone, Copy)]
pub struct Digesting<'a> {
    /// The sharpness `λ` of Eq. 4.
    pub lambda: f64,
    /// By sample, the tokens that count; all if `None`.
    pub tokens: Option<&'a [Range<usize>]>,
    /// Whether the strength is asked for.
    pub strength: bool,
}

/// What is left of maps `A` `[B, H, n, m]` when their rows are pooled, float32.
#[derive(Debug)]
pub struct Digest {
    /// Eq. 4, `1/n Σ_i 1/λ log Σ_j exp(λ A_ij)`, `[B, H]`.
    pub pooled: Tensor,
    /// `1/n Σ_i Σ_j |A_ij| softmax_j(λ A_i)` `[B, H]`: what Eq. 7 attributes to a head by the local gradient, but for a
    /// factor that all heads share. Where it was asked for.
    pub strength: Option<Tensor>,
}

/// Which map of an attention is pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// `scale · QKᵀ`.
    Scores,
    /// Its softmax over the keys.
    Probabilities,
}

/// The digest of the map of `q` `[B, H, n, d]` and `k` `[B, H, m, d]`, and the output `[B, H, n, d]` of attention to `v`
/// `[B, H, m, d]` where there is one. `None` where the map has to be formed: for what is differentiated, and where no
/// kernel is made for it.
///
/// On the CPU in one pass in float32, whatever the inputs' type.
pub fn attend(
    (q, k, v): (&Tensor, &Tensor, Option<&Tensor>),
    scale: f64,
    of: Of,
    how: &Digesting,
) -> Option<(Digest, Option<Tensor>)> {
    if !fused::allowed() || q.device() != Device::Cpu {
        return None;
    }
    let probabilities = of == Of::Probabilities;
    let [pooled, strength, output] = shim::attend_pooled(q, k, v, scale, probabilities, how.lambda, how.tokens)?;
    Some((Digest { pooled: pooled?, strength }, output))
}
