//! Text encoders: texts become the conditioning of a denoiser.

mod clip;
mod config;
mod tokens;

use tch::Tensor;

pub use clip::ClipTextEncoder;
pub use config::ClipTextConfig;
pub use tokens::{Columns, Segment, Tokens};

use super::tokenizer::Truncate;
use crate::Result;

/// The conditioning of a denoiser by `T` texts.
#[derive(Debug)]
pub struct Conditioning {
    /// `τ(y)` `[T, m, D]`: a vector for each of the `m` columns of a cross-attention map.
    pub context: Tensor,
    /// `[T, p]`: a vector for the whole text, if the model takes one.
    pub pooled: Option<Tensor>,
}

impl Conditioning {
    /// `T`, the number of texts.
    pub fn texts(&self) -> usize {
        self.context.size()[0] as usize
    }

    /// The same conditioning with every tensor passed through `f`, in a fixed order.
    pub fn map(&self, mut f: impl FnMut(&Tensor) -> Tensor) -> Self {
        Conditioning { context: f(&self.context), pooled: self.pooled.as_ref().map(f) }
    }

    /// A conditioning of other handles of the same tensors.
    pub fn shallow_clone(&self) -> Self {
        self.map(Tensor::shallow_clone)
    }

    /// The texts of these indices, int64 `[n]` on the device.
    pub fn select(&self, index: &Tensor) -> Self {
        self.map(|x| x.index_select(0, index))
    }

    /// The concatenation of several conditionings.
    pub fn cat(parts: &[Conditioning]) -> Self {
        let contexts: Vec<&Tensor> = parts.iter().map(|part| &part.context).collect();
        let pooled: Option<Vec<&Tensor>> = parts.iter().map(|part| part.pooled.as_ref()).collect();
        Conditioning { context: Tensor::cat(&contexts, 0), pooled: pooled.map(|pooled| Tensor::cat(&pooled, 0)) }
    }

    /// A conditioning of the same shape that is zero.
    pub fn zeros_like(&self) -> Self {
        self.map(Tensor::zeros_like)
    }

    /// All tensors, in a fixed order.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        std::iter::once(&self.context).chain(&self.pooled)
    }
}

/// The tokenizers and text encoders of a model.
pub trait Conditioner: Send {
    /// `m`, the number of columns of the context.
    fn columns(&self) -> usize;

    /// The most tokens of a text that every encoder reads, including BOS and EOS.
    fn max_tokens(&self) -> usize {
        self.columns()
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// `Config` if it has more than the model takes and `truncate` is [`Truncate::Error`].
    fn tokenize(&self, text: &str, truncate: Truncate) -> Result<Tokens>;

    /// Encodes token ids, for each encoder int64 `[T, m]` on its device.
    ///
    /// # Errors
    /// `Interrupted`, if the user asked for it.
    fn encode(&self, ids: &[Tensor]) -> Result<Conditioning>;

    /// Whether the unconditional text is a conditioning of zeros; otherwise it is the empty text.
    fn unconditional_is_zero(&self) -> bool {
        false
    }

    /// Number of parameters by folder.
    fn parameters(&self) -> Vec<(&'static str, usize)>;
}
