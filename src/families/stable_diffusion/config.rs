//! The configuration of a UNet.

use serde::Deserialize;
use serde_json::json;

use crate::Result;
use crate::checkpoint::Json;

/// The kind of a down or up block of a UNet2DConditionModel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Residual blocks only (`DownBlock2D`, `UpBlock2D`).
    Plain,
    /// Residual blocks, each followed by a transformer (`CrossAttnDownBlock2D`, `CrossAttnUpBlock2D`).
    CrossAttention,
}

/// The configuration of a UNet2DConditionModel.
#[derive(Debug, Clone)]
pub struct UNetConfig {
    /// `C`, channels of noised latents.
    pub in_channels: i64,
    /// Channels of predictions.
    pub out_channels: i64,
    /// Side of the latents that the model was trained on.
    pub sample_size: i64,
    /// Channels of each down block; up blocks mirror them.
    pub block_channels: Vec<i64>,
    /// The kinds of the down blocks.
    pub down_blocks: Vec<BlockKind>,
    /// The kinds of the up blocks.
    pub up_blocks: Vec<BlockKind>,
    /// Residual blocks in each down block; an up block has one more.
    pub layers_per_block: i64,
    /// Attention heads of each down block; published files call this `attention_head_dim`.
    pub heads: Vec<i64>,
    /// `D`, width of text vectors.
    pub cross_attention_dim: i64,
    /// Whether transformers project by linear layers instead of 1×1 convolutions.
    pub linear_projection: bool,
    /// Groups of the group norms.
    pub norm_groups: i64,
    /// `ε` of the group norms.
    pub norm_eps: f64,
    /// Padding of the convolutions that halve the size, 0 or 1.
    pub downsample_padding: i64,
    /// The divisor of the mid block's residual sums.
    pub mid_scale: f64,
    /// Whether sinusoids of times are cosines before sines.
    pub flip_sin_to_cos: bool,
    /// The shift in the frequencies of these sinusoids.
    pub freq_shift: f64,
    /// Width of the embedding of the guidance scale, which is an input of latent consistency models.
    pub guidance_dim: Option<i64>,
    /// For each down block, the number of blocks of each of its transformers. Up blocks mirror them, and the mid block
    /// has as many as the last down block.
    pub transformer_blocks: Vec<usize>,
    /// The embedding of the pooled text and of sizes, if there is one.
    pub added: Option<AddedConfig>,
}

/// The embedding of the pooled text and of sizes that SDXL adds to the time embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddedConfig {
    /// Width of the sinusoids of a size.
    pub time_dim: i64,
    /// Width of the embedding's input: the pooled text and the sinusoids of six sizes.
    pub inputs: i64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(i64),
    Many(Vec<i64>),
}

impl OneOrMany {
    fn each(self, count: usize) -> Vec<i64> {
        match self {
            OneOrMany::One(value) => vec![value; count],
            OneOrMany::Many(values) => values,
        }
    }
}

impl UNetConfig {
    /// Reads `unet/config.json`.
    ///
    /// # Errors
    /// `Checkpoint`, naming the field, if a value is missing, malformed or not supported.
    pub fn read(config: &Json) -> Result<Self> {
        refuse_what_is_not_built(config)?;
        let block_channels: Vec<i64> = config.or("block_out_channels", vec![320, 640, 1280, 1280])?;
        let levels = block_channels.len();
        let down_blocks = kinds(config, "down_block_types", "CrossAttnDownBlock2D", "DownBlock2D", levels)?;
        let up_blocks = kinds(config, "up_block_types", "CrossAttnUpBlock2D", "UpBlock2D", levels)?;

        // `num_attention_heads` is the correct name; published files use `attention_head_dim` for the number of heads.
        let heads = match config.optional::<OneOrMany>("num_attention_heads")? {
            Some(heads) => heads,
            None => config.or("attention_head_dim", OneOrMany::One(8))?,
        }
        .each(levels);
        let norm_groups = config.positive("norm_num_groups", Some(32))?;
        if heads.len() != levels {
            return Err(config.error("attention_head_dim", &format!("has {} entries for {levels} blocks", heads.len())));
        }
        for (&channels, &heads) in block_channels.iter().zip(&heads) {
            if !(1..=1 << 20).contains(&channels) || channels % norm_groups != 0 {
                let what = format!("has {channels}, which norm_num_groups = {norm_groups} does not divide");
                return Err(config.error("block_out_channels", &what));
            }
            if heads < 1 || channels % heads != 0 {
                return Err(
                    config.error("attention_head_dim", &format!("has {heads}, which does not divide {channels}"))
                );
            }
        }
        // Other paddings give sizes that up blocks cannot restore.
        let downsample_padding = config.or("downsample_padding", 1)?;
        if !(0..=1).contains(&downsample_padding) {
            return Err(config.error("downsample_padding", &format!("is {downsample_padding}; expected 0 or 1")));
        }
        let guidance_dim = match config.optional::<i64>("time_cond_proj_dim")? {
            None => None,
            // Half of it are frequencies, of which there must be a first and a last.
            Some(width) if (4..=1 << 20).contains(&width) => Some(width),
            Some(width) => return Err(config.error("time_cond_proj_dim", &format!("is {width}; expected 4 to 2^20"))),
        };
        let transformer_blocks = config.or("transformer_layers_per_block", OneOrMany::One(1))?.each(levels);
        if transformer_blocks.len() != levels || transformer_blocks.iter().any(|count| !(1..=256).contains(count)) {
            let what =
                format!("is {transformer_blocks:?}; expected a number from 1 to 256 for each of {levels} blocks");
            return Err(config.error("transformer_layers_per_block", &what));
        }
        let added = match config.optional::<String>("addition_embed_type")?.as_deref() {
            Some("text_time") => Some(AddedConfig {
                time_dim: config.positive("addition_time_embed_dim", None)?,
                inputs: config.positive("projection_class_embeddings_input_dim", None)?,
            }),
            // Others are refused above.
            _ => None,
        };
        Ok(UNetConfig {
            in_channels: config.positive("in_channels", Some(4))?,
            out_channels: config.positive("out_channels", Some(4))?,
            sample_size: config.positive("sample_size", Some(64))?,
            layers_per_block: config.positive("layers_per_block", Some(2))?,
            cross_attention_dim: config.positive("cross_attention_dim", Some(1280))?,
            linear_projection: config.or("use_linear_projection", false)?,
            norm_eps: config.or("norm_eps", 1e-5)?,
            downsample_padding,
            mid_scale: config.or("mid_block_scale_factor", 1.0)?,
            flip_sin_to_cos: config.or("flip_sin_to_cos", true)?,
            freq_shift: config.or("freq_shift", 0.0)?,
            guidance_dim,
            transformer_blocks: transformer_blocks.into_iter().map(|count| count as usize).collect(),
            added,
            block_channels,
            down_blocks,
            up_blocks,
            heads,
            norm_groups,
        })
    }

    /// Width of the time embedding, four times the channels of the first block.
    pub fn time_dim(&self) -> i64 {
        4 * self.block_channels[0]
    }
}

/// Refuses values of fields that would change the computation in ways that are not implemented.
fn refuse_what_is_not_built(config: &Json) -> Result<()> {
    config.only("_class_name", &[json!("UNet2DConditionModel")])?;
    config.not_null(&["mid_block_type", "flip_sin_to_cos"])?;
    config.only("mid_block_type", &[json!("UNetMidBlock2DCrossAttn")])?;
    // Scores are formed in float32 whatever it says.
    config.only("upcast_attention", &[json!(false), json!(true)])?;
    config.only("act_fn", &[json!("silu"), json!("swish")])?;
    config.only("resnet_time_scale_shift", &[json!("default")])?;
    config.only("attention_type", &[json!("default")])?;
    config.only("time_embedding_type", &[json!("positional")])?;
    config.only("addition_embed_type", &[json!("text_time")])?;
    config.only("resnet_out_scale_factor", &[json!(1.0), json!(1)])?;
    config.only("conv_in_kernel", &[json!(3)])?;
    config.only("conv_out_kernel", &[json!(3)])?;
    config.only("dropout", &[json!(0.0), json!(0)])?;
    for field in ["center_input_sample", "only_cross_attention", "dual_cross_attention", "class_embeddings_concat"] {
        config.only(field, &[json!(false)])?;
    }
    for field in [
        "class_embed_type",
        "cross_attention_norm",
        "encoder_hid_dim",
        "encoder_hid_dim_type",
        "num_class_embeds",
        "reverse_transformer_layers_per_block",
        "time_embedding_act_fn",
        "time_embedding_dim",
        "timestep_post_act",
    ] {
        config.only(field, &[])?;
    }
    Ok(())
}

fn kinds(config: &Json, field: &str, cross: &str, plain: &str, levels: usize) -> Result<Vec<BlockKind>> {
    let names: Vec<String> = config.required(field)?;
    if names.len() != levels || levels == 0 {
        let what = format!("has {} entries, block_out_channels has {levels}", names.len());
        return Err(config.error(field, &what));
    }
    let kind = |name: &String| match name.as_str() {
        name if name == cross => Ok(BlockKind::CrossAttention),
        name if name == plain => Ok(BlockKind::Plain),
        name => Err(config.error(field, &format!("holds {name:?}; supported are {cross:?} and {plain:?}"))),
    };
    names.iter().map(kind).collect()
}
