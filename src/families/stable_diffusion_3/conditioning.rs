//! The conditioning of Stable Diffusion 3.

use tch::Tensor;

use super::super::Options;
use super::super::clip::ClipPair;
use super::TransformerConfig;
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::encode::text::{Conditioner, Conditioning, Tokens};
use crate::encode::tokenizer::Truncate;

/// The columns of T5, as many as its pipeline takes tokens.
const T5_COLUMNS: i64 = 256;

/// A conditioner of two CLIP text encoders and T5. The context is the concatenation of the hidden states before the last
/// layer of CLIP, with zeros up to the width of T5's, followed along the columns by the vectors of T5, or by zeros if the
/// checkpoint lacks it. The pooled vector is the concatenation of both projections of CLIP.
pub struct ThreeEncoders {
    clip: ClipPair,
    /// Width of the context.
    width: i64,
}

impl ThreeEncoders {
    /// Reads the encoders for a transformer.
    ///
    /// # Errors
    /// `Checkpoint` if a part is missing or malformed, or the encoders do not fit the transformer.
    pub fn open(checkpoint: &Checkpoint, options: &Options, transformer: &TransformerConfig) -> Result<Self> {
        let configs = ClipPair::configs(checkpoint)?;
        let [first, second] = &configs;
        let (width, pooled) = (first.hidden_size + second.hidden_size, first.projection_dim + second.projection_dim);
        if width > transformer.joint_attention_dim {
            return Err(checkpoint.error(&format!(
                "the transformer expects text vectors of width {} (joint_attention_dim), the text encoders give {} + {} \
                 (hidden_size), which is more",
                transformer.joint_attention_dim, first.hidden_size, second.hidden_size
            )));
        }
        if pooled != transformer.pooled_projection_dim {
            return Err(checkpoint.error(&format!(
                "the transformer expects pooled text vectors of width {} (pooled_projection_dim), the text encoders give \
                 {} + {} (projection_dim)",
                transformer.pooled_projection_dim, first.projection_dim, second.projection_dim
            )));
        }
        Ok(ThreeEncoders {
            clip: ClipPair::open(checkpoint, options, &configs, [true; 2])?,
            width: transformer.joint_attention_dim,
        })
    }
}

impl Conditioner for ThreeEncoders {
    fn columns(&self) -> usize {
        self.clip.columns() + T5_COLUMNS as usize
    }

    fn max_tokens(&self) -> usize {
        self.clip.columns()
    }

    fn tokenize(&self, text: &str, truncate: Truncate) -> Result<Tokens> {
        Ok(self.clip.tokenize(text, truncate)?.followed_by("t5", T5_COLUMNS as usize, None))
    }

    fn encode(&self, ids: &[Tensor]) -> Result<Conditioning> {
        let (clip, pooled) = self.clip.encode(ids)?;
        let clip = clip.constant_pad_nd([0, self.width - clip.size()[2]]);
        let t5 = clip.new_zeros([clip.size()[0], T5_COLUMNS, self.width], (clip.kind(), clip.device()));
        Ok(Conditioning { context: Tensor::cat(&[clip, t5], 1), pooled: Some(Tensor::cat(&pooled, -1)) })
    }

    fn parameters(&self) -> Vec<(&'static str, usize)> {
        self.clip.parameters()
    }
}
