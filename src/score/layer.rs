//! The score of one layer from its attention maps.

use tch::{Kind, Tensor};

use super::attribution;
use super::inputs::Inputs;
use crate::config::{Attribution, Heads, MapKind, Pooling, ScoreConfig, TokenSet};
use crate::encode::text::Columns;
use crate::model::Model;
use crate::pooling::{FusedPooling, PooledAttention, constant, excess, shares_beside};

/// Below this `λ`, the constant `log(m)/λ` of Eq. 4 is left out of scores that all share it: next to so large a number,
/// float64 would lose the differences between them.
const LEAST_LAMBDA: f64 = 1e-3;

/// The constant of Eq. 4 that a score over `m` tokens includes.
fn offset(config: &ScoreConfig, m: usize) -> f64 {
    let shared = config.tokens == TokenSet::All;
    if shared && config.lambda < LEAST_LAMBDA { 0.0 } else { constant(config.pooling, config.lambda, m) }
}

/// Scores `[B]`, float64, of one layer from its maps `[B, H, n, m]`, as [`exact`] or altered; `columns[b]` are the columns
/// of sample `b`'s content tokens.
///
/// `given` are head weights `[H]` or `[B, H]` that were computed elsewhere (learned, or by backpropagation).
pub fn layer_score(map: &Tensor, columns: &[Columns], config: &ScoreConfig, given: Option<&Tensor>) -> Tensor {
    of_tokens(map, columns, config, |map, b| match (given, b) {
        (Some(weights), Some(b)) if weights.dim() == 2 => score(map, config, Some(&weights.get(b))),
        _ => score(map, config, given),
    })
}

/// A map of a model in float64. Rows of probabilities are normalised again: float32 rounding leaves sums different from
/// 1, which for a small `λ` outweighs the differences between maps. In joint attention sums are below 1.
pub fn exact(map: &Tensor, model: &Model, config: &ScoreConfig) -> Tensor {
    let map = map.to_kind(Kind::Double);
    let normalised = match config.map {
        MapKind::Probs => !model.architecture().joint,
        MapKind::TextProbs => true,
        MapKind::Logits | MapKind::Cosine => false,
    };
    if normalised { &map / map.detach().sum_dim_intlist(-1, true, None) } else { map }
}

/// How [`pooled_score`] wants the rows of a map pooled; `None` if only [`layer_score`] can compute the score.
pub fn fused_pooling<'a>(inputs: &'a Inputs, config: &ScoreConfig, given: bool) -> Option<FusedPooling<'a>> {
    let attributed = config.heads == Heads::Attributed;
    let elementwise = attributed && config.attribution == Attribution::Elementwise;
    let tokens = match config.tokens {
        TokenSet::All => None,
        // The kernels take contiguous tokens only.
        TokenSet::Content => Some(inputs.own_ranges()?),
    };
    (config.pooling == Pooling::Lse && !elementwise).then_some(FusedPooling {
        lambda: config.lambda,
        tokens,
        ranges: inputs.ranges.as_ref(),
        strength: attributed && !given,
    })
}

/// The scores `[B]` of [`layer_score`], float64, from the pooled rows of maps with `m` columns.
pub fn pooled_score(
    pooled: &PooledAttention,
    inputs: &Inputs,
    m: usize,
    config: &ScoreConfig,
    given: Option<&Tensor>,
) -> Tensor {
    let attributed = || attribution::shares(pooled.strength.as_ref().expect("it was asked for"));
    of_heads(&pooled.pooled, &pooled_offset(inputs, m, config), config, given, attributed)
}

/// The constant of Eq. 4 that pooled rows lack: a number, or `[B, 1]` where texts have tokens of their own.
fn pooled_offset(inputs: &Inputs, m: usize, config: &ScoreConfig) -> Tensor {
    match (config.tokens, &inputs.ranges) {
        (TokenSet::All, _) => Tensor::from(offset(config, m)),
        // A recorded CUDA graph must not read numbers from the CPU.
        (TokenSet::Content, Some(ranges)) => {
            (ranges.select(1, 1).to_kind(Kind::Double).log() / config.lambda).unsqueeze(1)
        }
        (TokenSet::Content, None) => {
            let own: Vec<f64> = inputs.columns().iter().map(|own| offset(config, own.len())).collect();
            Tensor::from_slice(&own).unsqueeze(1)
        }
    }
}

/// The pooled maps of each head `[B, H]`, float64, of maps `[B, H, n, m]`: [`layer_score`] is their weighted mean.
pub fn head_scores(map: &Tensor, columns: &[Columns], config: &ScoreConfig) -> Tensor {
    of_tokens(map, columns, config, |map, _| {
        excess(map, config.pooling, config.lambda) + offset(config, map.size()[3] as usize)
    })
}

/// The numbers of [`head_scores`] from the pooled rows of maps with `m` columns.
pub fn pooled_head_scores(pooled: &PooledAttention, inputs: &Inputs, m: usize, config: &ScoreConfig) -> Tensor {
    &pooled.pooled + pooled_offset(inputs, m, config)
}

/// The contribution of each head, image token and scored text token to the layer's score, float64 `[B, H, n, m']`.
/// Summed over all axes except the first it is [`layer_score`]. All samples must have the same number `m'` of scored
/// tokens.
pub fn layer_shares(map: &Tensor, columns: &[Columns], config: &ScoreConfig, given: Option<&Tensor>) -> Tensor {
    of_tokens(map, columns, config, |map, b| match (given, b) {
        (Some(weights), Some(b)) if weights.dim() == 2 => split(map, config, Some(&weights.get(b))),
        _ => split(map, config, given),
    })
}

/// Head weights `[B, H]` of maps `[B, H, n, m]`, attributed by the gradient of the layer's own score.
pub fn local_weights(map: &Tensor, columns: &[Columns], config: &ScoreConfig) -> Tensor {
    of_tokens(map, columns, config, |map, _| attribution::head_weights(map, config.pooling, config.lambda))
}

/// `f` of the columns of the scored tokens: of all samples at once, or sample by sample if each has columns of its own.
fn of_tokens(
    map: &Tensor,
    columns: &[Columns],
    config: &ScoreConfig,
    f: impl Fn(&Tensor, Option<i64>) -> Tensor,
) -> Tensor {
    if config.tokens == TokenSet::All {
        return f(map, None);
    }
    let one = |(b, own): (usize, &Columns)| f(&own.of(&map.narrow(0, b as i64, 1)), Some(b as i64));
    Tensor::cat(&columns.iter().enumerate().map(one).collect::<Vec<_>>(), 0)
}

fn score(map: &Tensor, config: &ScoreConfig, given: Option<&Tensor>) -> Tensor {
    let (how, lambda) = (config.pooling, config.lambda);
    let attributed = config.heads == Heads::Attributed;
    let offset = offset(config, map.size()[3] as usize);
    if attributed && config.attribution == Attribution::Elementwise {
        return mean(&excess(&attribution::elementwise(map, how, lambda), how, lambda)) + offset;
    }
    let attributed = || attribution::head_weights(map, how, lambda);
    of_heads(&excess(map, how, lambda), &Tensor::from(offset), config, given, attributed)
}

/// A layer's score `[B]` from the pooled maps of its heads without their constant `[B, H]`, the constant (a number or
/// `[B, 1]`), and the function that computes attributed weights.
fn of_heads(
    pooled: &Tensor,
    offset: &Tensor,
    config: &ScoreConfig,
    given: Option<&Tensor>,
    attributed: impl FnOnce() -> Tensor,
) -> Tensor {
    // The constant is added last, once: every sum of smaller numbers is made without it.
    let weighed = |weights: &Tensor| {
        let weights = weights.to_kind(Kind::Double);
        mean(&(&weights * pooled)) + mean(&(weights * offset))
    };
    let of_all = || if offset.dim() == 2 { offset.squeeze_dim(1) } else { offset.shallow_clone() };
    match (given, &config.heads) {
        (Some(weights), _) => weighed(weights),
        (None, Heads::Attributed) => weighed(&attributed()),
        (None, Heads::Subset(chosen)) => {
            let index: Vec<i64> = chosen.iter().map(|&head| head as i64).collect();
            mean(&pooled.index_select(-1, &Tensor::from_slice(&index).to_device(pooled.device()))) + of_all()
        }
        (None, Heads::Mean | Heads::Learned) => mean(pooled) + of_all(),
    }
}

fn split(map: &Tensor, config: &ScoreConfig, given: Option<&Tensor>) -> Tensor {
    let (how, lambda, heads) = (config.pooling, config.lambda, map.size()[1]);
    let offset = offset(config, map.size()[3] as usize);
    if config.heads == Heads::Attributed && config.attribution == Attribution::Elementwise {
        let attributed = attribution::elementwise(map, how, lambda);
        return shares_beside(&attributed, how, lambda, offset) / heads as f64;
    }
    let of_heads = shares_beside(&map.to_kind(Kind::Double), how, lambda, offset) / heads as f64;
    let weights = match (given, &config.heads) {
        (Some(weights), _) => weights.shallow_clone(),
        (None, Heads::Attributed) => attribution::head_weights(map, how, lambda),
        (None, Heads::Subset(chosen)) => {
            let weight =
                |head| if chosen.contains(&(head as usize)) { heads as f64 / chosen.len() as f64 } else { 0.0 };
            Tensor::from_slice(&(0..heads).map(weight).collect::<Vec<_>>()).to_device(map.device())
        }
        (None, Heads::Mean | Heads::Learned) => return of_heads,
    };
    of_heads * weights.unsqueeze(-1).unsqueeze(-1)
}

fn mean(of_heads: &Tensor) -> Tensor {
    of_heads.mean_dim(-1, false, None)
}
