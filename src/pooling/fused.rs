//! Attention that computes the pooled map without materialising the map.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use crate::config::MapKind;
use crate::device::upload;
use crate::kernels::cuda::programs::{self, PoolingArguments, RowStatistics};
use crate::kernels::shim::PooledMap;
use crate::kernels::{self, self_check, shim};
use crate::nn::{self, inverse_length, scores, unit};

/// How to pool the rows of a map.
#[derive(Debug, Clone, Copy)]
pub struct FusedPooling<'a> {
    /// The sharpness `λ` of Eq. 4.
    pub lambda: f64,
    /// For each sample, the columns that are pooled; all columns if `None`.
    pub tokens: Option<&'a [Range<usize>]>,
    /// `tokens` as [`ranges`] returns them, if they are on the device already.
    pub ranges: Option<&'a Tensor>,
    /// Whether [`PooledAttention::strength`] is wanted.
    pub strength: bool,
}

/// The pooled rows of maps `A` `[B, H, n, m]`.
#[derive(Debug)]
pub struct PooledAttention {
    /// `1/n Σ_i 1/λ log(1/m Σ_j exp(λ A_ij))`, float64 `[B, H]`: Eq. 4 without its constant `log(m)/λ`, next to which
    /// it would lose its digits.
    pub pooled: Tensor,
    /// `1/n Σ_i Σ_j |A_ij| softmax_j(λ A_i)`, float32 `[B, H]`: the attribution of Eq. 7 to a head by the local
    /// gradient, up to a factor that all heads share. Present if it was wanted.
    pub strength: Option<Tensor>,
}

/// Queries, keys and values, split into heads.
#[derive(Clone, Copy)]
pub struct Qkv<'a> {
    /// Queries `[B, H, n, d]`.
    pub q: &'a Tensor,
    /// Keys `[B, H, m, d]`.
    pub k: &'a Tensor,
    /// Values `[B, H, m, d]`, if the output is wanted.
    pub v: Option<&'a Tensor>,
}

type Attended = (PooledAttention, Option<Tensor>);

/// The pooled map, and the output `[B, H, n, d]` of the attention if there are values. `None` if the map must be
/// materialised: if gradients are needed, or no kernel for this case passes its self-check.
///
/// `scale` is the factor of `QKᵀ`. The CPU kernel computes in one pass in float32, whatever the type of the inputs. On
/// CUDA there are three ways: one pass on tensor cores if all keys fit in a tile, libtorch's fused attention if only
/// the log-sum-exp of its softmax is needed, and otherwise one pass over the products of queries and keys.
pub fn attend(heads: Qkv, scale: f64, of_map: MapKind, how: &FusedPooling) -> Option<Attended> {
    if !kernels::allowed() {
        return None;
    }
    match heads.q.device() {
        Device::Cpu => on_cpu(heads, scale, of_map, how),
        device if programs::takes(device, heads.q.kind()) => on_cuda(heads, scale, of_map, how),
        _ => None,
    }
}

fn on_cpu(Qkv { q, k, v }: Qkv, scale: f64, of_map: MapKind, how: &FusedPooling) -> Option<Attended> {
    if of_map == MapKind::Cosine {
        // The output needs scores, the map cosines.
        if v.is_some() {
            return None;
        }
        let heads = Qkv { q: &unit(q), k: &unit(k), v };
        return on_cpu(heads, 1.0, MapKind::Logits, how);
    }
    let map = match of_map {
        MapKind::Probs | MapKind::TextProbs => PooledMap::Probabilities,
        MapKind::Logits | MapKind::Cosine => PooledMap::Scores,
    };
    let [pooled, strength, output] = shim::attend_pooled(q, k, v, scale, map, how.lambda, how.tokens)?;
    Some((PooledAttention { pooled: pooled?, strength }, output))
}

type Route = fn(Qkv, f64, MapKind, &FusedPooling) -> Option<Attended>;

fn on_cuda(heads: Qkv, scale: f64, of_map: MapKind, how: &FusedPooling) -> Option<Attended> {
    let (q, k) = (heads.q, heads.k);
    let (device, kind) = (q.device(), q.kind());
    let (keys, width) = (k.size()[2], q.size()[3]);
    // A few rows are enough for the self-check.
    let tried = q.size()[2].min(130);
    let compare = |route: Route, how: &FusedPooling| {
        // In memory the heads of a token are adjacent, as projections leave them.
        let numbers = |tokens, salt| self_check::numbers(&[2, tokens, 3, width], kind, device, salt).transpose(1, 2);
        let (q, k, v) = (numbers(tried, 0.1), numbers(keys, 0.7), numbers(keys, 1.9));
        let heads = Qkv { q: &q, k: &k, v: heads.v.is_some().then_some(&v) };
        let scale = (width as f64).powf(-0.5);
        let failed = || crate::Error::Internal(anyhow::anyhow!("it made nothing"));
        Ok(pairs(route(heads, scale, of_map, how).ok_or_else(failed)?, plain(heads, scale, of_map, how)))
    };
    let own = [0..keys as usize, (keys as usize / 3)..(keys as usize / 3 + 1)];
    let own = FusedPooling { tokens: how.tokens.map(|_| own.as_slice()), ranges: None, ..*how };
    let options = vec![keys, width, of_map as i64, i64::from(how.tokens.is_some()), i64::from(heads.v.is_some())];
    let attends = programs::attends(q, k, heads.v);
    if attends && self_check::passed(("attend", device, kind, options.clone()), || compare(by_tile, &own)) {
        return by_tile(heads, scale, of_map, how);
    }
    if fused_gives(heads, of_map, how, scale) {
        let all = FusedPooling { lambda: 1.0, tokens: None, ranges: None, strength: false };
        let case = ("of fused attention", device, kind, vec![tried, keys, width]);
        if self_check::passed(case, || compare(by_fused, &all)) {
            return by_fused(heads, scale, of_map, how);
        }
    }
    // That kernel computes the output from the map that it pools.
    let one_map = of_map != MapKind::Cosine || heads.v.is_none();
    if one_map && self_check::passed(("pool_rows", device, kind, options), || compare(by_rows, &own)) {
        return by_rows(heads, scale, of_map, how);
    }
    None
}

/// Whether libtorch's fused attention computes everything that is wanted: the log-sum-exp of its softmax.
fn fused_gives(Qkv { q, v, .. }: Qkv, of_map: MapKind, how: &FusedPooling, scale: f64) -> bool {
    let own_scale = (scale - nn::scale(q)).abs() < 1e-12;
    let sums = of_map == MapKind::Logits && how.lambda == 1.0 && how.tokens.is_none() && !how.strength;
    sums && own_scale && v.is_some()
}

/// By libtorch's fused attention.
fn by_fused(Qkv { q, k, v }: Qkv, _: f64, _: MapKind, _: &FusedPooling) -> Option<Attended> {
    let (output, lse) = shim::attend_lse(q, k, v?)?;
    let pooled = lse.mean_dim(-1, false, Kind::Double) - (k.size()[2] as f64).ln();
    Some((PooledAttention { pooled, strength: None }, Some(output)))
}

/// By the kernel that holds all keys in one tile.
fn by_tile(Qkv { q, k, v }: Qkv, scale: f64, of_map: MapKind, how: &FusedPooling) -> Option<Attended> {
    let ranges = how.ranges(q.device());
    let (sums, output) = programs::attend(
        q,
        k,
        v,
        &PoolingArguments { map: of_map, scale, lambda: how.lambda, ranges: ranges.as_ref() },
    )
    .ok()?;
    let rows = q.size()[2] as f64;
    Some((pooled_of(&sums, |parts| parts.sum_dim_intlist(-1, false, None) / rows), output))
}

/// By the kernel that makes one pass over the products of queries and keys.
fn by_rows(Qkv { q, k, v }: Qkv, scale: f64, of_map: MapKind, how: &FusedPooling) -> Option<Attended> {
    let ranges = how.ranges(q.device());
    let lengths = (of_map == MapKind::Cosine).then(|| [inverse_length(q), inverse_length(k)]);
    let lengths = lengths.as_ref().map(|[rows, columns]| [rows, columns]);
    // For cosines the kernel divides by the lengths.
    let scale = if of_map == MapKind::Cosine { 1.0 } else { scale };
    let how = PoolingArguments { map: of_map, scale, lambda: how.lambda, ranges: ranges.as_ref() };
    let (rows, probabilities) = programs::pool(&products(q, k), &how, lengths, None, v.map(Tensor::kind)).ok()?;
    let output = v.zip(probabilities).map(|(v, probabilities)| probabilities.matmul(v));
    Some((pooled_of(&rows, |rows| rows.mean_dim(-1, false, None)), output))
}

impl FusedPooling<'_> {
    pub(super) fn ranges(&self, device: Device) -> Option<Tensor> {
        let known = || self.ranges.map(Tensor::shallow_clone);
        self.tokens.and_then(|tokens| known().or_else(|| Some(ranges(tokens, device))))
    }
}

/// int64 `[B, 2]` on the device: for each sample, the first of its pooled columns and their number.
pub fn ranges(tokens: &[Range<usize>], device: Device) -> Tensor {
    let ranges: Vec<i64> = tokens.iter().flat_map(|own| [own.start as i64, own.len() as i64]).collect();
    upload(&Tensor::from_slice(&ranges).view([-1, 2]), device)
}

pub(super) fn pooled_of(of_rows: &RowStatistics, mean: impl Fn(&Tensor) -> Tensor) -> PooledAttention {
    PooledAttention { pooled: mean(&of_rows.lse), strength: Some(mean(&of_rows.strength)) }
}

/// `QKᵀ` `[B, H, n, m]` in float32. Tensor cores may compute it from half precision, since its products are exact in
/// float32.
pub(super) fn products(q: &Tensor, k: &Tensor) -> Tensor {
    if q.kind() == Kind::Float {
        return q.matmul(&k.transpose(-1, -2));
    }
    let (samples, heads, _, _) = q.size4().expect("queries are [B, H, n, d]");
    let products = q.flatten(0, 1).bmm_dtype(&k.flatten(0, 1).transpose(1, 2), Kind::Float);
    products.unflatten(0, [samples, heads])
}

/// The reference: the same result by libtorch's operators.
fn plain(Qkv { q, k, v }: Qkv, scale: f64, of_map: MapKind, how: &FusedPooling) -> Attended {
    let scores = scores(q, k, scale);
    let probabilities = scores.softmax(-1, None);
    let cosines = (of_map == MapKind::Cosine).then(|| unit(q).matmul(&unit(k).transpose(-1, -2)));
    let map = match of_map {
        MapKind::Logits => &scores,
        MapKind::Probs | MapKind::TextProbs => &probabilities,
        MapKind::Cosine => cosines.as_ref().expect("they were made above"),
    };
    let of_sample = |sample: usize| {
        let map = map.get(sample as i64);
        let map = match how.tokens {
            Some(tokens) => map.narrow(-1, tokens[sample].start as i64, tokens[sample].len() as i64),
            None => map,
        };
        let sharp = map.to_kind(Kind::Double) * how.lambda;
        let constant = (map.size()[2] as f64).ln();
        let pooled = (sharp.logsumexp(-1, false) - constant).mean_dim(-1, false, None) / how.lambda;
        let strength = (map.abs() * sharp.softmax(-1, None)).sum_dim_intlist(-1, false, None);
        (pooled, strength.mean_dim(-1, false, None))
    };
    let (pooled, strength): (Vec<_>, Vec<_>) = (0..map.size()[0] as usize).map(of_sample).unzip();
    let pooled = PooledAttention { pooled: Tensor::stack(&pooled, 0), strength: Some(Tensor::stack(&strength, 0)) };
    (pooled, v.map(|v| probabilities.to_kind(v.kind()).matmul(v)))
}

fn pairs(ours: Attended, plain: Attended) -> Vec<(Tensor, Tensor)> {
    let strengths = ours.0.strength.zip(plain.0.strength);
    let outputs = ours.1.zip(plain.1);
    [Some((ours.0.pooled, plain.0.pooled)), strengths, outputs].into_iter().flatten().collect()
}
