use serde_json::json;

use crate::Result;
use crate::checkpoint::Json;
use crate::nn::Activation;

/// The configuration of a CLIPTextModel or a CLIPTextModelWithProjection.
#[derive(Debug, Clone)]
pub struct ClipTextConfig {
    /// Number of token vectors.
    pub vocab_size: i64,
    /// `D`, width of the hidden states.
    pub hidden_size: i64,
    /// Width of the feed-forward layers.
    pub intermediate_size: i64,
    /// Number of transformer layers.
    pub layers: i64,
    /// Number of attention heads.
    pub heads: i64,
    /// `m`, the number of text tokens (77 in every published Stable Diffusion).
    pub max_tokens: i64,
    /// The activation of the feed-forward layers.
    pub activation: Activation,
    /// `ε` of the layer norms.
    pub norm_eps: f64,
    /// Width of the pooled vector, if there is a projection to it.
    pub projection_dim: i64,
    /// The token id that ends a text.
    pub eos_token_id: i64,
}

impl ClipTextConfig {
    /// Reads `text_encoder/config.json`.
    ///
    /// # Errors
    /// `Checkpoint`, naming the field, if a value is missing, malformed or not supported.
    pub fn read(config: &Json) -> Result<Self> {
        config.only("model_type", &[json!("clip_text_model")])?;
        // If it is true, diffusers' pipelines mask the padding.
        config.only("use_attention_mask", &[json!(false)])?;
        let hidden_size = config.positive("hidden_size", Some(512))?;
        let heads = config.positive("num_attention_heads", Some(8))?;
        if hidden_size % heads != 0 {
            return Err(
                config.error("num_attention_heads", &format!("is {heads}, which does not divide {hidden_size}"))
            );
        }
        Ok(ClipTextConfig {
            vocab_size: config.positive("vocab_size", Some(49408))?,
            intermediate_size: config.positive("intermediate_size", Some(2048))?,
            layers: config.positive("num_hidden_layers", Some(12))?,
            max_tokens: config.positive("max_position_embeddings", Some(77))?,
            activation: Activation::parse(&config.or("hidden_act", "quick_gelu".to_owned())?)?,
            norm_eps: config.or("layer_norm_eps", 1e-5)?,
            projection_dim: config.positive("projection_dim", Some(512))?,
            eos_token_id: config.or("eos_token_id", 49407)?,
            hidden_size,
            heads,
        })
    }
}
