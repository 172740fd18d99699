//! The softmax of joint attention: that of image tokens over the keys of image and text together. Its map has a row for
//! each image token and a column for each text token; the columns of the image are never materialised.

use tch::{Device, Kind, Tensor};

use super::fused::{FusedPooling, PooledAttention, pooled_of, products};
use super::lse;
use crate::config::MapKind;
use crate::kernels::cuda::programs::{self, PoolingArguments};
use crate::kernels::shim::{self, PooledMap};
use crate::kernels::{self, self_check};
use crate::nn::{attention, scale, scores};

/// Attention of `q` `[B, H, n, d]` to `k` and `v` `[B, H, m, d]`, and the log-sum-exp of each row of its scores
/// `S = QKᵀ/√d`, float32 `[B, H, n]`. Both have a graph if their inputs have one; the one of the log-sum-exp can be
/// differentiated once.
pub fn attend_with_lse(q: &Tensor, k: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
    let (output, lse) = attended(q, k, v);
    let lse = if q.requires_grad() || k.requires_grad() { with_gradient(&lse.detach(), q, k) } else { lse };
    (output, lse)
}

/// The pooled columns `A_ij = exp(S_ij − sums_i)` of the keys `k` `[B, H, m, d]` in a softmax over more keys, whose scores
/// have the log-sum-exp `sums` `[B, H, n]`. `None` if the map must be materialised, as for [`super::attend`].
pub fn attend_part(q: &Tensor, k: &Tensor, sums: &Tensor, how: &FusedPooling) -> Option<PooledAttention> {
    if !kernels::allowed() {
        return None;
    }
    if q.device() == Device::Cpu {
        let map = PooledMap::PartOfProbabilities(sums);
        let [pooled, strength, _] = shim::attend_pooled(q, k, None, scale(q), map, how.lambda, how.tokens)?;
        return Some(PooledAttention { pooled: pooled?, strength });
    }
    if !programs::takes(q.device(), q.kind()) {
        return None;
    }
    let ranges = how.ranges(q.device());
    let pool = |products: &Tensor, sums: &Tensor, ranges| {
        let how = PoolingArguments { map: MapKind::Logits, scale: scale(q), lambda: how.lambda, ranges };
        programs::pool(products, &how, None, Some(sums), None).map(|(rows, _)| rows)
    };
    let compare = || {
        let numbers = |shape: &[i64], salt| self_check::numbers(shape, Kind::Float, q.device(), salt);
        let (products, sums) = (numbers(&[2, 3, 7, k.size()[2]], 0.3), numbers(&[2, 3, 7], 1.1) + 9.0);
        let rows = pool(&products, &sums, None).map_err(|why| crate::Error::Internal(anyhow::anyhow!(why)))?;
        let map = (products * scale(q) - sums.unsqueeze(-1)).exp();
        Ok(vec![(rows.lse.mean_dim(-1, false, None), lse::excess(&map, how.lambda))])
    };
    let case = ("pool_rows with sums", q.device(), q.kind(), vec![k.size()[2], q.size()[3]]);
    if !self_check::passed(case, compare) {
        return None;
    }
    let rows = pool(&products(q, k), sums, ranges.as_ref()).ok()?;
    Some(pooled_of(&rows, |rows| rows.mean_dim(-1, false, None)))
}

/// [`attend_with_lse`], whose log-sum-exp has no graph, as the kernels of libtorch give it.
fn attended(q: &Tensor, k: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
    let own = || shim::attend_lse(q, k, v);
    let found = match q.device() {
        Device::Cpu => own(),
        device => {
            let case = ("of fused attention with log-sum-exp", device, q.kind(), vec![q.size()[3]]);
            let compare = || {
                let numbers = |tokens, salt| {
                    self_check::numbers(&[2, tokens, 3, q.size()[3]], q.kind(), device, salt).transpose(1, 2)
                };
                let (q, k, v) = (numbers(70, 0.1), numbers(130, 0.7), numbers(130, 1.9));
                let failed = || crate::Error::Internal(anyhow::anyhow!("it made nothing"));
                let (output, lse) = shim::attend_lse(&q, &k, &v).ok_or_else(failed)?;
                let scores = scores(&q, &k, scale(&q));
                Ok(vec![
                    (output, scores.softmax(-1, None).matmul(&v.to_kind(Kind::Float))),
                    (lse, scores.logsumexp(-1, false)),
                ])
            };
            if kernels::fast_paths() && self_check::passed(case, compare) { own() } else { None }
        }
    };
    found.unwrap_or_else(|| (attention(q, k, v), tch::no_grad(|| log_sum_exp(q, k))))
}

/// `log Σ_j exp(S_ij)` `[B, H, n]` by libtorch's operators, a few rows at a time.
fn log_sum_exp(q: &Tensor, k: &Tensor) -> Tensor {
    let (samples, heads, rows, _) = q.size4().expect("queries are [B, H, n, d]");
    let at_once = (MOST_SCORES / (samples * heads * k.size()[2])).clamp(1, rows);
    let parts: Vec<Tensor> = (0..rows)
        .step_by(at_once as usize)
        .map(|from| scores(&q.narrow(2, from, at_once.min(rows - from)), k, scale(q)).logsumexp(-1, false))
        .collect();
    Tensor::cat(&parts, 2)
}

/// The most scores that are materialised at a time: 256 MiB.
const MOST_SCORES: i64 = 64 << 20;

/// The log-sum-exp `lse` of scores with the gradient that it has, `∂lse_i/∂S_ij = P_ij`, without the matrix `P`.
fn with_gradient(lse: &Tensor, q: &Tensor, k: &Tensor) -> Tensor {
    let (fixed_q, fixed_k) = (q.detach(), k.detach());
    // Σ_j P_ij k_j with a constant P: by it the keys get P_ij q_i and the queries Σ_j P_ij k_j.
    let mean = attention(&fixed_q, &fixed_k, k);
    let product =
        |a: &Tensor, b: &Tensor| (a.to_kind(Kind::Float) * b.to_kind(Kind::Float)).sum_dim_intlist(-1, false, None);
    let linear = (product(q, &mean.detach()) + product(&fixed_q, &mean)) * scale(q);
    lse + (&linear - linear.detach())
}
