//! CLIP text encoders with their tokenizers, as several families have them.

use tch::Tensor;

use super::Options;
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::encode::text::{ClipTextConfig, ClipTextEncoder, Tokens};
use crate::encode::tokenizer::{Tokenizer, Truncate};

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

/// The folders of the tokenizers and text encoders of a pair.
const PAIR: [[&str; 2]; 2] = [["tokenizer", "text_encoder"], ["tokenizer_2", "text_encoder_2"]];

/// Two CLIP text encoders whose vectors are concatenated in the same columns.
pub struct ClipPair {
    encoders: [ClipEncoder; 2],
    columns: i64,
}

impl ClipPair {
    /// Reads the configurations of both text encoders.
    ///
    /// # Errors
    /// `Checkpoint` if one is missing or malformed.
    pub fn configs(checkpoint: &Checkpoint) -> Result<[ClipTextConfig; 2]> {
        let read = |[_, part]: [&str; 2]| ClipTextConfig::read(&checkpoint.config(part)?);
        Ok([read(PAIR[0])?, read(PAIR[1])?])
    }

    /// Reads both encoders; `projected` says which of them are.
    ///
    /// # Errors
    /// `Checkpoint` if a part is missing or malformed, or the encoders take different numbers of tokens.
    pub fn open(
        checkpoint: &Checkpoint,
        options: &Options,
        configs: &[ClipTextConfig; 2],
        projected: [bool; 2],
    ) -> Result<Self> {
        let [first, second] = configs;
        if first.max_tokens != second.max_tokens {
            return Err(checkpoint.error(&format!(
                "the text encoders take {} and {} tokens (max_position_embeddings); expected the same number",
                first.max_tokens, second.max_tokens
            )));
        }
        let open = |i: usize| ClipEncoder::open(checkpoint, options, PAIR[i], &configs[i], projected[i]);
        Ok(ClipPair { encoders: [open(0)?, open(1)?], columns: first.max_tokens })
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns as usize
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// `Config` if it has more than the encoders take and `truncate` is [`Truncate::Error`].
    pub fn tokenize(&self, text: &str, truncate: Truncate) -> Result<Tokens> {
        let encodings = self.encoders.iter().map(|encoder| encoder.tokenizer.encode(text, truncate));
        Ok(Tokens::side_by_side(LABEL, encodings.collect::<Result<_>>()?))
    }

    /// Of token ids, int64 `[T, m]` for each encoder, the concatenated hidden states before the last layer `[T, m, D]`,
    /// and the projections `[T, p]` of those that are projected, in order.
    ///
    /// # Errors
    /// `Interrupted`, if the user asked for it.
    pub fn encode(&self, ids: &[Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
        let (first, pooled) = self.encoders[0].network.penultimate(&ids[0])?;
        let (second, other) = self.encoders[1].network.penultimate(&ids[1])?;
        Ok((Tensor::cat(&[first, second], -1), pooled.into_iter().chain(other).collect()))
    }

    /// Number of parameters by folder.
    pub fn parameters(&self) -> Vec<(&'static str, usize)> {
        PAIR.iter().zip(&self.encoders).map(|([_, part], encoder)| (*part, encoder.network.parameters())).collect()
    }
}
