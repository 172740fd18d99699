//! One layer's map becomes the layer's score.

use std::ops::Range;

use tch::Tensor;

use super::attribution;
use crate::config::{Attribution, Heads, ScoreConfig, TokenSet};
use crate::pooling::pool;

/// Scores `[B]` of one layer from its maps `[B, H, n, m]`; `content[b]` are the prompt's own tokens of sample `b`.
pub fn layer_score(map: &Tensor, content: &[Range<usize>], config: &ScoreConfig) -> Tensor {
    if config.tokens == TokenSet::All && config.heads != Heads::Attributed {
        return mean_of_heads(&pool(map, config.pooling, config.lambda), &config.heads);
    }
    let one = |b: usize| {
        let map = map.get(b as i64);
        let map = match config.tokens {
            TokenSet::All => map,
            TokenSet::Content => map.narrow(-1, content[b].start as i64, content[b].len() as i64),
        };
        sample_score(&map, config)
    };
    Tensor::stack(&(0..content.len()).map(one).collect::<Vec<_>>(), 0)
}

/// The layer's score of one sample, from its map `[H, n, m]`.
fn sample_score(map: &Tensor, config: &ScoreConfig) -> Tensor {
    let (how, lambda) = (config.pooling, config.lambda);
    if config.heads != Heads::Attributed {
        return mean_of_heads(&pool(map, how, lambda), &config.heads);
    }
    if config.attribution == Attribution::Elementwise {
        return pool(&attribution::elementwise(map, how, lambda), how, lambda).mean(None);
    }
    (attribution::head_weights(map, how, lambda) * pool(map, how, lambda)).mean(None)
}

/// Pooled heads `[…, H]` to their mean, over all or over the chosen.
fn mean_of_heads(pooled: &Tensor, heads: &Heads) -> Tensor {
    let Heads::Subset(chosen) = heads else {
        return pooled.mean_dim(-1, false, None);
    };
    let index: Vec<i64> = chosen.iter().map(|&head| head as i64).collect();
    pooled.index_select(-1, &Tensor::from_slice(&index).to_device(pooled.device())).mean_dim(-1, false, None)
}
