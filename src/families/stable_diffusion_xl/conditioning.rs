//! The conditioning of Stable Diffusion XL.

use tch::Tensor;

use super::super::Options;
use super::super::clip::ClipPair;
use super::super::stable_diffusion::UNetConfig;
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::encode::text::{Conditioner, Conditioning, Tokens};
use crate::encode::tokenizer::Truncate;

/// A conditioner of two CLIP text encoders. The context is the concatenation of their hidden states before the last
/// layer. The pooled vector is the second encoder's projection of its last hidden state at EOS.
pub struct TwoEncoders {
    clip: ClipPair,
    unconditional_is_zero: bool,
}

impl TwoEncoders {
    /// Reads both encoders for a UNet.
    ///
    /// # Errors
    /// `Checkpoint` if a part is missing or malformed, or the encoders do not fit the UNet.
    pub fn open(checkpoint: &Checkpoint, options: &Options, unet: &UNetConfig) -> Result<Self> {
        let configs = ClipPair::configs(checkpoint)?;
        let [first, second] = &configs;
        let width = first.hidden_size + second.hidden_size;
        if unet.cross_attention_dim != width {
            return Err(checkpoint.error(&format!(
                "the UNet expects text vectors of width {} (cross_attention_dim), the text encoders give {} + {} \
                 (hidden_size)",
                unet.cross_attention_dim, first.hidden_size, second.hidden_size
            )));
        }
        let Some(added) = unet.added else {
            return Err(checkpoint.error(
                "the UNet takes no pooled text and no sizes (addition_embed_type is not \"text_time\"), which pipelines of \
                 Stable Diffusion XL give",
            ));
        };
        let given = second.projection_dim + 6 * added.time_dim;
        if added.inputs != given {
            return Err(checkpoint.error(&format!(
                "the UNet takes {} numbers beside the time (projection_class_embeddings_input_dim), and is given {given}: \
                 {} of the pooled text (projection_dim of text_encoder_2) and {} of each of six sizes \
                 (addition_time_embed_dim)",
                added.inputs, second.projection_dim, added.time_dim
            )));
        }
        Ok(TwoEncoders {
            clip: ClipPair::open(checkpoint, options, &configs, [false, true])?,
            unconditional_is_zero: checkpoint.index().or("force_zeros_for_empty_prompt", true)?,
        })
    }
}

impl Conditioner for TwoEncoders {
    fn columns(&self) -> usize {
        self.clip.columns()
    }

    fn tokenize(&self, text: &str, truncate: Truncate) -> Result<Tokens> {
        self.clip.tokenize(text, truncate)
    }

    fn encode(&self, ids: &[Tensor]) -> Result<Conditioning> {
        let (context, pooled) = self.clip.encode(ids)?;
        Ok(Conditioning { context, pooled: pooled.into_iter().next() })
    }

    fn unconditional_is_zero(&self) -> bool {
        self.unconditional_is_zero
    }

    fn parameters(&self) -> Vec<(&'static str, usize)> {
        self.clip.parameters()
    }
}
