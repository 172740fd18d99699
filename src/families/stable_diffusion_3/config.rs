use serde_json::json;

use crate::Result;
use crate::checkpoint::Json;

/// The configuration of an SD3Transformer2DModel.
#[derive(Debug, Clone)]
pub struct TransformerConfig {
    /// `C`, channels of noised latents.
    pub in_channels: i64,
    /// Channels of predictions.
    pub out_channels: i64,
    /// Side of the latents that the model was trained on.
    pub sample_size: i64,
    /// Side of the square of latent pixels that is one image token.
    pub patch_size: i64,
    /// Number of blocks.
    pub layers: usize,
    /// `H`, number of attention heads.
    pub heads: i64,
    /// `d`, width of a head.
    pub head_dim: i64,
    /// `D`, width of text vectors.
    pub joint_attention_dim: i64,
    /// Width of pooled text vectors.
    pub pooled_projection_dim: i64,
    /// Side of the grid of positions, in image tokens.
    pub max_positions: i64,
    /// Whether queries and keys are normalised.
    pub qk_norm: bool,
    /// The blocks in which image tokens attend to each other a second time.
    pub dual_attention_layers: Vec<usize>,
}

impl TransformerConfig {
    /// Reads `transformer/config.json`.
    ///
    /// # Errors
    /// `Checkpoint`, naming the field, if a value is missing, malformed or not supported.
    pub fn read(config: &Json) -> Result<Self> {
        config.only("_class_name", &[json!("SD3Transformer2DModel")])?;
        config.only("qk_norm", &[json!("rms_norm")])?;
        // Without a size, diffusers makes positions that are no weights.
        config.not_null(&["pos_embed_max_size", "dual_attention_layers"])?;
        let in_channels = config.positive("in_channels", Some(16))?;
        let read = TransformerConfig {
            in_channels,
            // An absent field has a default, null means the channels of the input.
            out_channels: match config.fields().get("out_channels") {
                Some(value) if value.is_null() => in_channels,
                _ => config.positive("out_channels", Some(16))?,
            },
            sample_size: config.positive("sample_size", Some(128))?,
            patch_size: config.positive("patch_size", Some(2))?,
            layers: config.positive("num_layers", Some(18))? as usize,
            heads: config.positive("num_attention_heads", Some(18))?,
            head_dim: config.positive("attention_head_dim", Some(64))?,
            joint_attention_dim: config.positive("joint_attention_dim", Some(4096))?,
            pooled_projection_dim: config.positive("pooled_projection_dim", Some(2048))?,
            max_positions: config.positive("pos_embed_max_size", Some(96))?,
            qk_norm: config.optional::<String>("qk_norm")?.is_some(),
            dual_attention_layers: config.or("dual_attention_layers", vec![])?,
        };
        let caption = config.positive("caption_projection_dim", Some(1152))?;
        if caption != read.width() {
            let what = format!(
                "is {caption}; expected {} = num_attention_heads · attention_head_dim, the width of the blocks",
                read.width()
            );
            return Err(config.error("caption_projection_dim", &what));
        }
        if read.sample_size % read.patch_size != 0 {
            let what = format!("is {}, which does not divide sample_size = {}", read.patch_size, read.sample_size);
            return Err(config.error("patch_size", &what));
        }
        if read.sample_size / read.patch_size > read.max_positions {
            let what = format!("is {}, less than sample_size / patch_size", read.max_positions);
            return Err(config.error("pos_embed_max_size", &what));
        }
        Ok(read)
    }

    /// `H·d`, width of the tokens.
    pub fn width(&self) -> i64 {
        self.heads * self.head_dim
    }
}
