use serde_json::json;

use crate::Result;
use crate::checkpoint::Json;

/// The configuration of an AutoencoderKL.
#[derive(Debug, Clone)]
pub struct VaeConfig {
    /// Channels of images that are encoded: 3.
    pub in_channels: i64,
    /// Channels of decoded images: 3.
    pub out_channels: i64,
    /// `C`, channels of latents.
    pub latent_channels: i64,
    /// Channels of each block of the encoder, from the image to the latent.
    pub block_channels: Vec<i64>,
    /// Residual blocks in each block of the encoder; a block of the decoder has one more.
    pub layers_per_block: i64,
    /// Groups of the group norms.
    pub norm_groups: i64,
    /// `s` of `z = s (E(x) − c)`.
    pub scaling_factor: f64,
    /// `c` of `z = s (E(x) − c)`.
    pub shift_factor: f64,
    /// Whether the encoder ends with a 1×1 convolution of mean and variance.
    pub quant_conv: bool,
    /// Whether the decoder begins with a 1×1 convolution of the latent.
    pub post_quant_conv: bool,
    /// Whether the middle block has self-attention.
    pub mid_attention: bool,
}

impl VaeConfig {
    /// Reads `vae/config.json`.
    ///
    /// # Errors
    /// `Checkpoint`, naming the field, if a value is missing, malformed or not supported.
    pub fn read(config: &Json) -> Result<Self> {
        config.only("_class_name", &[json!("AutoencoderKL")])?;
        config.only("act_fn", &[json!("silu"), json!("swish")])?;
        config.only("latents_mean", &[])?;
        config.only("latents_std", &[])?;
        config.only("in_channels", &[json!(3)])?;
        config.only("out_channels", &[json!(3)])?;
        config.not_null(&["use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"])?;
        let block_channels: Vec<i64> = config.or("block_out_channels", vec![64])?;
        let types: Vec<String> = config.required("down_block_types")?;
        let up: Vec<String> = config.or("up_block_types", vec!["UpDecoderBlock2D".to_owned(); types.len()])?;
        if types.len() != block_channels.len() || types.is_empty() || types.len() > 8 {
            let what = format!("has {} entries, block_out_channels has {}", types.len(), block_channels.len());
            return Err(config.error("down_block_types", &what));
        }
        if let Some(other) = types.iter().find(|name| *name != "DownEncoderBlock2D") {
            return Err(
                config.error("down_block_types", &format!("holds {other:?}; only \"DownEncoderBlock2D\" is supported"))
            );
        }
        if up.len() != types.len() || up.iter().any(|name| name != "UpDecoderBlock2D") {
            let what = format!("is {up:?}; supported is \"UpDecoderBlock2D\", as often as there are down blocks");
            return Err(config.error("up_block_types", &what));
        }
        let norm_groups = config.positive("norm_num_groups", Some(32))?;
        if let Some(bad) = block_channels.iter().find(|c| !(1..=1 << 20).contains(*c) || **c % norm_groups != 0) {
            let what = format!("has {bad}, which norm_num_groups = {norm_groups} does not divide");
            return Err(config.error("block_out_channels", &what));
        }
        Ok(VaeConfig {
            in_channels: config.positive("in_channels", Some(3))?,
            out_channels: config.positive("out_channels", Some(3))?,
            latent_channels: config.positive("latent_channels", Some(4))?,
            layers_per_block: config.positive("layers_per_block", Some(1))?,
            scaling_factor: config.or("scaling_factor", 0.18215)?,
            shift_factor: config.or("shift_factor", 0.0)?,
            quant_conv: config.or("use_quant_conv", true)?,
            post_quant_conv: config.or("use_post_quant_conv", true)?,
            mid_attention: config.or("mid_block_add_attention", true)?,
            block_channels,
            norm_groups,
        })
    }

    /// Channels of the last block of the encoder, whose feature maps have the size of the latent.
    pub fn last_channels(&self) -> i64 {
        *self.block_channels.last().expect("the configuration has at least one block")
    }

    /// `f`, image pixels per latent pixel, along one side.
    pub fn scale_factor(&self) -> i64 {
        1 << (self.block_channels.len() - 1)
    }
}
