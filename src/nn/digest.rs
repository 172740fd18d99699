//! Attention that pools its map instead of forming it.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::{fused, trial};
use crate::torch::{cuda, shim};

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

/// What attends: `q` `[B, H, n, d]`, `k` and, where an output is wanted, `v` `[B, H, m, d]`.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    pub q: &'a Tensor,
    pub k: &'a Tensor,
    pub v: Option<&'a Tensor>,
}

type Attended = (Digest, Option<Tensor>);

/// The digest of the map, and the output `[B, H, n, d]` of the attention where there is a `v`. `None` where the map has to
/// be formed: for what is differentiated, and where there is no kernel that can be trusted.
///
/// On the CPU in one pass in float32, whatever the inputs' type. On CUDA from libtorch's fused attention, if the sums of
/// its softmax are all that is asked for, and otherwise in one pass over the scores.
pub fn attend(heads: Heads, scale: f64, of: Of, how: &Digesting) -> Option<Attended> {
    if !fused::allowed() {
        return None;
    }
    match heads.q.device() {
        Device::Cpu => on_cpu(heads, scale, of, how),
        device if cuda::programs::takes(device, heads.q.kind()) => on_cuda(heads, scale, of, how),
        _ => None,
    }
}

fn on_cpu(Heads { q, k, v }: Heads, scale: f64, of: Of, how: &Digesting) -> Option<Attended> {
    let probabilities = of == Of::Probabilities;
    let [pooled, strength, output] = shim::attend_pooled(q, k, v, scale, probabilities, how.lambda, how.tokens)?;
    Some((Digest { pooled: pooled?, strength }, output))
}

fn on_cuda(heads: Heads, scale: f64, of: Of, how: &Digesting) -> Option<Attended> {
    let (q, k) = (heads.q, heads.k);
    let (device, kind) = (q.device(), q.kind());
    let (rows, keys, width) = (q.size()[2], k.size()[2], q.size()[3]);
    // Fewer rows are as good to try with.
    let tried = rows.min(130);
    let numbers = |tokens, salt| trial::numbers(&[2, 3, tokens, width], kind, device, salt);
    let compare = |run: &dyn Fn(Heads, f64, Of, &Digesting) -> Option<Attended>, how: &Digesting, of| {
        let (q, k, v) = (numbers(tried, 0.1), numbers(keys, 0.7), numbers(keys, 1.9));
        let heads = Heads { q: &q, k: &k, v: Some(&v) };
        let scale = (width as f64).powf(-0.5);
        let failed = || crate::Error::Internal(anyhow::anyhow!("it made nothing"));
        let ours = run(heads, scale, of, how).ok_or_else(failed)?;
        Ok(pairs(ours, plain(heads, scale, of, how)))
    };
    if let Some(v) = heads.v.filter(|_| fused_gives(of, how, scale, width)) {
        let case = ("of fused attention", device, kind, vec![tried, keys, width]);
        let run = |Heads { q, k, v }: Heads, _: f64, _: Of, _: &Digesting| by_fused(q, k, v?);
        let how = Digesting { lambda: 1.0, tokens: None, strength: false };
        if trial::passed(case, || compare(&run, &how, Of::Scores)) {
            return by_fused(q, k, v);
        }
    }
    let case =
        ("pool_rows", device, kind, vec![keys, i64::from(of == Of::Probabilities), i64::from(how.tokens.is_some())]);
    let own = [0..keys as usize, (keys as usize / 3)..(keys as usize / 3 + 1)];
    let tokens = how.tokens.map(|_| own.as_slice());
    if trial::passed(case, || compare(&by_rows, &Digesting { tokens, ..*how }, of)) {
        return by_rows(heads, scale, of, how);
    }
    None
}

/// Whether the sums of a fused attention's softmax are all that is asked for.
fn fused_gives(of: Of, how: &Digesting, scale: f64, width: i64) -> bool {
    let own_scale = (scale - (width as f64).powf(-0.5)).abs() < 1e-12;
    of == Of::Scores && how.lambda == 1.0 && how.tokens.is_none() && !how.strength && own_scale
}

fn by_fused(q: &Tensor, k: &Tensor, v: &Tensor) -> Option<Attended> {
    let (output, lse) = shim::attend_lse(q, k, v)?;
    Some((Digest { pooled: lse.mean_dim(-1, false, Kind::Float), strength: None }, Some(output)))
}

/// By the kernel of one pass over the scores.
fn by_rows(Heads { q, k, v }: Heads, scale: f64, of: Of, how: &Digesting) -> Option<Attended> {
    let scores = scores(q, k, scale);
    let ranges = how.tokens.map(|tokens| {
        let ranges: Vec<i64> = tokens.iter().flat_map(|own| [own.start as i64, own.len() as i64]).collect();
        Tensor::from_slice(&ranges).view([-1, 2]).to_device(q.device())
    });
    let probabilities = v.map(Tensor::kind);
    let of_probabilities = of == Of::Probabilities;
    let (lse, strength, probabilities) =
        cuda::programs::pool(&scores, ranges.as_ref(), of_probabilities, how.lambda, probabilities).ok()?;
    let mean = |rows: &Tensor| rows.mean_dim(-1, false, Kind::Float);
    let output = v.zip(probabilities).map(|(v, probabilities)| probabilities.matmul(v));
    Some((Digest { pooled: mean(&lse), strength: Some(mean(&strength)) }, output))
}

/// `scale · QKᵀ` `[B, H, n, m]` in float32.
fn scores(q: &Tensor, k: &Tensor, scale: f64) -> Tensor {
    (q.to_kind(Kind::Float) * scale).matmul(&k.to_kind(Kind::Float).transpose(-1, -2))
}

/// The same by the operators that it is defined with.
fn plain(Heads { q, k, v }: Heads, scale: f64, of: Of, how: &Digesting) -> Attended {
    let scores = scores(q, k, scale);
    let probabilities = scores.softmax(-1, None);
    let map = if of == Of::Scores { &scores } else { &probabilities };
    let of_sample = |sample: usize| {
        let map = map.get(sample as i64);
        let map = match how.tokens {
            Some(tokens) => map.narrow(-1, tokens[sample].start as i64, tokens[sample].len() as i64),
            None => map,
        };
        let sharp = &map * how.lambda;
        let pooled = sharp.logsumexp(-1, false).mean_dim(-1, false, Kind::Float) / how.lambda;
        let strength = (map.abs() * sharp.softmax(-1, None)).sum_dim_intlist(-1, false, None);
        (pooled, strength.mean_dim(-1, false, Kind::Float))
    };
    let (pooled, strength): (Vec<_>, Vec<_>) = (0..map.size()[0] as usize).map(of_sample).unzip();
    let digest = Digest { pooled: Tensor::stack(&pooled, 0), strength: Some(Tensor::stack(&strength, 0)) };
    (digest, v.map(|v| probabilities.to_kind(v.kind()).matmul(v)))
}

fn pairs(ours: Attended, plain: Attended) -> Vec<(Tensor, Tensor)> {
    let strengths = ours.0.strength.zip(plain.0.strength);
    let outputs = ours.1.zip(plain.1);
    [Some((ours.0.pooled, plain.0.pooled)), strengths, outputs].into_iter().flatten().collect()
}
