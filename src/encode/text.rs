//! The CLIP text encoder (Radford et al. 2021, section 2.4): a pre-norm transformer with a causal mask.

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::checkpoint::{Checkpoint, Scope, TextConfig};
use crate::nn::{Activation, Embedding, LayerNorm, Linear};
use crate::torch::check_interrupt;

/// Token ids `[B, m]` to text vectors `τ(y)` `[B, m, D]`: the last hidden state after the final norm.
pub struct TextEncoder {
    tokens: Embedding,
    positions: Embedding,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    max_tokens: i64,
    parameters: usize,
}

impl TextEncoder {
    /// Reads the part `text_encoder`.
    pub fn new(checkpoint: &Checkpoint, device: Device, kind: Kind) -> Result<Self> {
        let config = &checkpoint.text;
        let weights = checkpoint.weights("text_encoder", device, kind)?;
        let root = weights.root();
        // Files written by recent releases of transformers have no prefix.
        let root = if root.has("embeddings.token_embedding.weight") { root } else { &root / "text_model" };
        let encoder = TextEncoder {
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
            max_tokens: config.max_tokens,
            parameters: weights.parameters_used(),
        };
        // Files of transformers before 4.31 store the positions 0, 1, 2, … as a buffer; a projection is CLIP's, not ours.
        weights.finish(|key| key.ends_with("embeddings.position_ids") || key == "text_projection.weight")?;
        Ok(encoder)
    }

    /// int64 `[B, m]` to `[B, m, D]`.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let positions = Tensor::arange(self.max_tokens, (Kind::Int64, ids.device()));
        let tokens = self.tokens.forward(ids);
        let positions = self.positions.forward(&positions).expand_as(&tokens);
        // Two parts of a sum: who takes it next normalises it in the same pass.
        let mut x = (tokens, positions);
        for layer in &self.layers {
            check_interrupt()?;
            x = layer.forward(&x.0, &x.1);
        }
        Ok(self.final_norm.forward_of_sum(&x.0, &x.1).1)
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
    fn new(weights: &Scope, config: &TextConfig) -> Result<Self> {
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

    /// Of `x + added`; the two parts of a sum again.
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
