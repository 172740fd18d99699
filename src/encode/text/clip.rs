//! The CLIP text encoder (Radford et al. 2021, section 2.4): a pre-norm transformer with a causal mask.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::ClipTextConfig;
use crate::Result;
use crate::checkpoint::{Scope, Weights};
use crate::nn::{Activation, Embedding, LayerNorm, Linear};
use crate::runtime::check_interrupt;

/// Token ids `[T, m]` to text vectors `[T, m, D]`.
pub struct ClipTextEncoder {
    tokens: Embedding,
    positions: Embedding,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    /// `text_projection`, which makes the pooled vector.
    projection: Option<Linear>,
    max_tokens: i64,
    eos_token_id: i64,
    parameters: usize,
}

/// The `eos_token_id` of old configurations, which differs from the tokenizer's. Then the largest id of a text ends it,
/// as in transformers.
const LEGACY_EOS: i64 = 2;

impl ClipTextEncoder {
    /// Reads a CLIPTextModel, or with `projected` a CLIPTextModelWithProjection.
    ///
    /// # Errors
    /// `Checkpoint`, naming the key, if a weight is missing, has another shape or is not used.
    pub fn new(weights: &Weights, config: &ClipTextConfig, projected: bool) -> Result<Self> {
        let root = weights.root();
        let projection = match projected {
            true => Some(Linear::new(&(&root / "text_projection"), config.hidden_size, config.projection_dim, false)?),
            false => None,
        };
        // Files written by recent releases of transformers have no prefix.
        let root = if root.has("embeddings.token_embedding.weight") { root } else { &root / "text_model" };
        let encoder = ClipTextEncoder {
            tokens: Embedding::new(&(&root / "embeddings.token_embedding"), config.vocab_size, config.hidden_size)?,
            positions: Embedding::new(
                &(&root / "embeddings.position_embedding"),
                config.max_tokens,
                config.hidden_size,
            )?,
            layers: (0..config.layers)
                .map(|i| Layer::new(&(&(&root / "encoder.layers") / i), config))
                .collect::<Result<_>>()?,
            final_norm: LayerNorm::new(&(&root / "final_layer_norm"), config.hidden_size, config.norm_eps)?,
            projection,
            max_tokens: config.max_tokens,
            eos_token_id: config.eos_token_id,
            parameters: weights.parameters_used(),
        };
        // Files of transformers before 4.31 store the positions 0, 1, 2, … as a buffer; a projection may be CLIP's own.
        weights.finish(|key| key.ends_with("embeddings.position_ids") || key == "text_projection.weight")?;
        Ok(encoder)
    }

    /// The last hidden state after the final norm, `[T, m, D]`.
    ///
    /// # Errors
    /// `Interrupted`, if the user asked for it.
    pub fn last_hidden_state(&self, ids: &Tensor) -> Result<Tensor> {
        let (x, added) = self.through(self.embed(ids), 0..self.layers.len())?;
        Ok(self.final_norm.forward_of_sum(&x, &added).1)
    }

    /// The hidden state before the last layer, `[T, m, D]`, and the pooled vector `[T, p]` if there is a projection to
    /// it.
    ///
    /// # Errors
    /// `Interrupted`, if the user asked for it.
    pub fn penultimate(&self, ids: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let last = self.layers.len() - 1;
        let (x, added) = self.through(self.embed(ids), 0..last)?;
        let hidden = &x + &added;
        let Some(projection) = &self.projection else { return Ok((hidden, None)) };
        let (x, added) = self.through((x, added), last..last + 1)?;
        let normed = self.final_norm.forward_of_sum(&x, &added).1;
        let ends = match self.eos_token_id {
            LEGACY_EOS => ids.argmax(-1, false),
            eos => ids.eq(eos).to_kind(Kind::Int64).argmax(-1, false),
        };
        let rows = Tensor::arange(ids.size()[0], (Kind::Int64, ids.device()));
        let of_ends = normed.index(&[Some(rows), Some(ends)]);
        Ok((hidden, Some(projection.forward(&of_ends))))
    }

    fn embed(&self, ids: &Tensor) -> (Tensor, Tensor) {
        let positions = Tensor::arange(self.max_tokens, (Kind::Int64, ids.device()));
        let tokens = self.tokens.forward(ids);
        let positions = self.positions.forward(&positions).expand_as(&tokens);
        // The two terms of a sum. The next norm adds them in its own pass over memory.
        (tokens, positions)
    }

    fn through(&self, mut x: (Tensor, Tensor), layers: Range<usize>) -> Result<(Tensor, Tensor)> {
        for layer in &self.layers[layers] {
            check_interrupt()?;
            x = layer.forward(&x.0, &x.1);
        }
        Ok(x)
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.parameters
    }
}

struct Layer {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm1: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    norm2: LayerNorm,
    activation: Activation,
    heads: i64,
}

impl Layer {
    fn new(weights: &Scope, config: &ClipTextConfig) -> Result<Self> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let attention = weights / "self_attn";
        let mlp = weights / "mlp";
        Ok(Layer {
            q: Linear::new(&(&attention / "q_proj"), width, width, true)?,
            k: Linear::new(&(&attention / "k_proj"), width, width, true)?,
            v: Linear::new(&(&attention / "v_proj"), width, width, true)?,
            out: Linear::new(&(&attention / "out_proj"), width, width, true)?,
            norm1: LayerNorm::new(&(weights / "layer_norm1"), width, config.norm_eps)?,
            fc1: Linear::new(&(&mlp / "fc1"), width, inner, true)?,
            fc2: Linear::new(&(&mlp / "fc2"), inner, width, true)?,
            norm2: LayerNorm::new(&(weights / "layer_norm2"), width, config.norm_eps)?,
            activation: config.activation,
            heads: config.heads,
        })
    }

    /// The layer's output for `x + added`, again as the two terms of a sum.
    fn forward(&self, x: &Tensor, added: &Tensor) -> (Tensor, Tensor) {
        let (batch, tokens, width) = x.size3().expect("text vectors are [B, m, D]");
        let split = |x: Tensor| x.view([batch, tokens, self.heads, width / self.heads]).transpose(1, 2);
        let (x, y) = self.norm1.forward_of_sum(x, added);
        let (q, k, v) = (split(self.q.forward(&y)), split(self.k.forward(&y)), split(self.v.forward(&y)));
        let y = Tensor::scaled_dot_product_attention::<Tensor>(&q, &k, &v, None, 0.0, true, None, false);
        let y = self.out.forward(&y.transpose(1, 2).reshape([batch, tokens, width]));
        let (x, y) = self.norm2.forward_of_sum(&x, &y);
        let y = self.fc2.forward(&self.activation.forward(&self.fc1.forward(&y)));
        (x, y)
    }
}
