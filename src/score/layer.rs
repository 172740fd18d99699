//! One layer's map becomes the layer's score.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::{Inputs, attribution};
use crate::config::{Attribution, Heads, Pooling, ScoreConfig, TokenSet};
use crate::nn::{Digest, Digesting};
use crate::pooling::{pool, shares};

/// Scores `[B]` of one layer from its maps `[B, H, n, m]`; `content[b]` are the prompt's own tokens of sample `b`.
///
/// `given` are head weights `[H]` or `[B, H]` found elsewhere (learned, or by backpropagation).
pub fn layer_score(map: &Tensor, content: &[Range<usize>], config: &ScoreConfig, given: Option<&Tensor>) -> Tensor {
    of_tokens(map, content, config, |map, b| match (given, b) {
        (Some(weights), Some(b)) if weights.dim() == 2 => score(map, config, Some(&weights.get(b))),
        _ => score(map, config, given),
    })
}

/// How a map is digested for [`digest_score`], where that gives the score of [`layer_score`].
pub fn digesting<'a>(inputs: &'a Inputs, config: &ScoreConfig, given: bool) -> Option<Digesting<'a>> {
    let attributed = config.heads == Heads::Attributed;
    let elementwise = attributed && config.attribution == Attribution::Elementwise;
    (config.pooling == Pooling::Lse && !elementwise).then_some(Digesting {
        lambda: config.lambda,
        tokens: (config.tokens == TokenSet::Content).then_some(inputs.content()),
        ranges: inputs.ranges.as_ref(),
        strength: attributed && !given,
    })
}

/// The same scores `[B]` from the digest of the maps.
pub fn digest_score(digest: &Digest, config: &ScoreConfig, given: Option<&Tensor>) -> Tensor {
    let attributed = || attribution::shares(digest.strength.as_ref().expect("it was asked for"));
    of_heads(&digest.pooled, config, given, attributed)
}

/// What each head, image token and counted text token adds to the layer's score, float64 `[B, H, n, m']`: its sum over
/// all but the rows is [`layer_score`]. `m'` are the tokens that count, of which all samples have the same number.
pub fn layer_shares(map: &Tensor, content: &[Range<usize>], config: &ScoreConfig, given: Option<&Tensor>) -> Tensor {
    of_tokens(map, content, config, |map, b| match (given, b) {
        (Some(weights), Some(b)) if weights.dim() == 2 => split(map, config, Some(&weights.get(b))),
        _ => split(map, config, given),
    })
}

/// Head weights `[B, H]` by the local gradient, of maps `[B, H, n, m]`.
pub fn local_weights(map: &Tensor, content: &[Range<usize>], config: &ScoreConfig) -> Tensor {
    of_tokens(map, content, config, |map, _| attribution::head_weights(map, config.pooling, config.lambda))
}

/// `f` of the maps of the tokens that count: of all samples at once, or one by one where each has its own.
fn of_tokens(
    map: &Tensor,
    content: &[Range<usize>],
    config: &ScoreConfig,
    f: impl Fn(&Tensor, Option<i64>) -> Tensor,
) -> Tensor {
    if config.tokens == TokenSet::All {
        return f(map, None);
    }
    let one = |(b, own): (usize, &Range<usize>)| {
        let map = map.narrow(0, b as i64, 1).narrow(-1, own.start as i64, own.len() as i64);
        f(&map, Some(b as i64))
    };
    Tensor::cat(&content.iter().enumerate().map(one).collect::<Vec<_>>(), 0)
}

fn score(map: &Tensor, config: &ScoreConfig, given: Option<&Tensor>) -> Tensor {
    let (how, lambda) = (config.pooling, config.lambda);
    let attributed = config.heads == Heads::Attributed;
    if attributed && config.attribution == Attribution::Elementwise {
        return mean(&pool(&attribution::elementwise(map, how, lambda), how, lambda));
    }
    of_heads(&pool(map, how, lambda), config, given, || attribution::head_weights(map, how, lambda))
}

/// A layer's score `[B]` from those of its heads `[B, H]`, and the weights that attribution would give them.
fn of_heads(
    pooled: &Tensor,
    config: &ScoreConfig,
    given: Option<&Tensor>,
    attributed: impl FnOnce() -> Tensor,
) -> Tensor {
    match (given, &config.heads) {
        (Some(weights), _) => mean(&(weights * pooled)),
        (None, Heads::Attributed) => mean(&(attributed() * pooled)),
        (None, Heads::Subset(chosen)) => {
            let index: Vec<i64> = chosen.iter().map(|&head| head as i64).collect();
            mean(&pooled.index_select(-1, &Tensor::from_slice(&index).to_device(pooled.device())))
        }
        (None, Heads::Mean | Heads::Learned) => mean(pooled),
    }
}

fn split(map: &Tensor, config: &ScoreConfig, given: Option<&Tensor>) -> Tensor {
    let (how, lambda, heads) = (config.pooling, config.lambda, map.size()[1]);
    if config.heads == Heads::Attributed && config.attribution == Attribution::Elementwise {
        let attributed = attribution::elementwise(map, how, lambda);
        return shares(&attributed.to_kind(Kind::Double), how, lambda) / heads as f64;
    }
    let of_heads = shares(&map.to_kind(Kind::Double), how, lambda) / heads as f64;
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
