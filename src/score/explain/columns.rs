//! The tokens of an explanation: which columns of a map stand alone and which are summarised.

use tch::Tensor;

use crate::config::TokenSet;
use crate::encode::text::{Columns, Segment, Tokens};
use crate::encode::tokenizer::Encoding;

/// The `k` tokens that are shown of the `m` columns of a map: in each segment BOS, the content tokens and EOS, and all
/// padding as one token. The columns of an encoder that the model lacks are padding.
pub struct ShownColumns {
    /// For each segment, its first column, its first padding column, and its end.
    segments: Vec<[i64; 3]>,
    own: Columns,
    m: usize,
    counted: TokenSet,
}

impl ShownColumns {
    /// The shown columns of a text in maps `[…, m]`; `counted` are the tokens that the score pools.
    pub fn new(tokens: &Tokens, m: usize, counted: TokenSet) -> Self {
        let segment = |(Segment { start, columns, .. }, encoding): (Segment, Option<&Encoding>)| {
            let shown = encoding.map_or(0, |encoding| encoding.content.end + 1);
            [start, start + shown, start + columns].map(|at| at as i64)
        };
        ShownColumns { segments: tokens.by_segment().map(segment).collect(), own: tokens.own_columns(), m, counted }
    }

    /// Maps `[…, m]` to `[…, k]`; padding is represented by its mean.
    pub fn of_map(&self, map: &Tensor) -> Tensor {
        self.split(map, |padding| padding.mean_dim(-1, true, None))
    }

    /// Shares of the pooled tokens `[…, m']` to `[…, k]`; padding is represented by its sum, and tokens that the score
    /// does not pool have share zero.
    pub fn of_shares(&self, shares: &Tensor) -> Tensor {
        let sum = |padding: &Tensor| padding.sum_dim_intlist(-1, true, None);
        match self.counted {
            TokenSet::All => self.split(shares, sum),
            TokenSet::Content => self.split(&self.own.among_zeros(shares, self.m), sum),
        }
    }

    /// `[…, m]` to `[…, k]`, where `reduce` makes one column of the padding.
    fn split(&self, x: &Tensor, reduce: impl Fn(&Tensor) -> Tensor) -> Tensor {
        let mut parts = vec![];
        for &[start, padding, end] in &self.segments {
            if padding > start {
                parts.push(x.narrow(-1, start, padding - start));
            }
            if end > padding {
                parts.push(reduce(&x.narrow(-1, padding, end - padding)));
            }
        }
        match &parts[..] {
            [all] => all.shallow_clone(),
            _ => Tensor::cat(&parts, -1),
        }
    }
}
