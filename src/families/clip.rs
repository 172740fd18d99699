//! CLIP text encoders with their tokenizers, as several families have them.

use super::Options;
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::encode::text::{ClipTextConfig, ClipTextEncoder};
use crate::encode::tokenizer::Tokenizer;

/// The kind of text encoder that columns of these encoders are labelled with.
pub const LABEL: &str = "clip";

/// A CLIP text encoder and its tokenizer.
pub struct ClipEncoder {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The text encoder.
    pub network: ClipTextEncoder,
}

impl ClipEncoder {
    /// Reads the folders of a tokenizer and of a text encoder; `projected` is that of [`ClipTextEncoder::new`].
    ///
    /// # Errors
    /// `Checkpoint` if one is missing or malformed, or they do not fit each other.
    pub fn open(
        checkpoint: &Checkpoint,
        options: &Options,
        [tokenizer, part]: [&str; 2],
        config: &ClipTextConfig,
        projected: bool,
    ) -> Result<Self> {
        let tokenizer = Tokenizer::open(&checkpoint.tokenizer(tokenizer), config.max_tokens as usize)?;
        tokenizer.check_fits(config.vocab_size)?;
        let weights = checkpoint.weights(part, options.device, options.kind)?;
        Ok(ClipEncoder { tokenizer, network: ClipTextEncoder::new(&weights, config, projected)? })
    }
}
