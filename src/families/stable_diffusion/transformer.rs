//! The spatial transformers of a UNet.

use tch::Tensor;

use super::UNetConfig;
use crate::Result;
use crate::checkpoint::Scope;
use crate::deltas::{Architecture, AttentionKind, Projection, Target, TargetWeight};
use crate::denoiser::{Attention, AttentionLayer, Pass, Recorder};
use crate::nn::{Conv2d, GroupNorm, LayerNorm, Linear, geglu};
use crate::runtime::check_interrupt;

/// The spatial transformer: blocks of self-attention over image tokens, cross-attention to the text and a gated
/// feed-forward.
pub struct Transformer {
    norm: GroupNorm,
    proj_in: PointwiseLayer,
    blocks: Vec<TransformerBlock>,
    proj_out: PointwiseLayer,
}

/// Stable Diffusion 1.x projects by a 1×1 convolution, later models by a linear layer. Both compute the same in
/// different layouts.
enum PointwiseLayer {
    Conv(Conv2d),
    Linear(Linear),
}

impl PointwiseLayer {
    fn new(weights: &Scope, config: &UNetConfig, channels: i64) -> Result<Self> {
        Ok(if config.linear_projection {
            PointwiseLayer::Linear(Linear::new(weights, channels, channels, true)?)
        } else {
            PointwiseLayer::Conv(Conv2d::new(weights, channels, channels, 1)?)
        })
    }
}

/// The position of a transformer in the UNet, and its sizes.
pub struct Place {
    /// `down`, `mid` or `up`.
    pub group: &'static str,
    /// Index of the block in its group.
    pub block: usize,
    /// Index of the transformer in its block.
    pub transformer: usize,
    /// Number of blocks that the transformer has.
    pub blocks: usize,
    pub heads: i64,
    pub channels: i64,
}

impl Place {
    /// The name of the transformer's block of this index: `down.1.0` where it is the only one, else `down.1.0.3`.
    fn name(&self, index: usize) -> String {
        let of_transformer = match self.group {
            "mid" => format!("mid.{}", self.transformer),
            group => format!("{group}.{}.{}", self.block, self.transformer),
        };
        if self.blocks == 1 { of_transformer } else { format!("{of_transformer}.{index}") }
    }
}

impl Transformer {
    /// Reads one transformer, and adds its attention layers to `architecture`.
    pub fn new(weights: &Scope, config: &UNetConfig, place: &Place, architecture: &mut Architecture) -> Result<Self> {
        let channels = place.channels;
        Ok(Transformer {
            norm: GroupNorm::new(&(weights / "norm"), config.norm_groups, channels, 1e-6)?,
            proj_in: PointwiseLayer::new(&(weights / "proj_in"), config, channels)?,
            blocks: (0..place.blocks)
                .map(|i| {
                    let weights = &(weights / "transformer_blocks") / i;
                    TransformerBlock::new(&weights, config, place, i, architecture)
                })
                .collect::<Result<_>>()?,
            proj_out: PointwiseLayer::new(&(weights / "proj_out"), config, channels)?,
        })
    }

    pub fn blocks(&self) -> &[TransformerBlock] {
        &self.blocks
    }

    /// `[I or B, c, h, w]` to `[B, c, h, w]`, or `None` if nothing more is wanted.
    pub fn forward(&self, x: &Tensor, pass: &Pass, recorder: &mut Recorder) -> Result<Option<Tensor>> {
        let tokens = |x: &Tensor| x.flatten(2, 3).transpose(1, 2);
        let y = self.norm.forward(x);
        let mut y = match &self.proj_in {
            PointwiseLayer::Conv(conv) => tokens(&conv.forward(&y)),
            PointwiseLayer::Linear(linear) => linear.forward(&tokens(&y)),
        };
        for block in &self.blocks {
            let Some(after) = block.forward(&y, pass, recorder)? else {
                return Ok(None);
            };
            y = after;
        }
        let x = pass.batch.by_row(x);
        let grid = |y: &Tensor| y.transpose(1, 2).reshape_as(&x);
        Ok(Some(match &self.proj_out {
            PointwiseLayer::Conv(conv) => conv.forward(&grid(&y)) + &x,
            PointwiseLayer::Linear(linear) => grid(&linear.forward(&y)) + &x,
        }))
    }
}

/// One block of a transformer.
pub struct TransformerBlock {
    norm1: LayerNorm,
    self_attention: Attention,
    norm2: LayerNorm,
    cross_attention: Attention,
    norm3: LayerNorm,
    gate: Linear,
    feed: Linear,
    /// Index of its attention layer.
    layer: usize,
}

impl TransformerBlock {
    fn new(
        weights: &Scope,
        config: &UNetConfig,
        place: &Place,
        index: usize,
        architecture: &mut Architecture,
    ) -> Result<Self> {
        let (channels, heads, text) = (place.channels, place.heads, config.cross_attention_dim);
        let norm = |name: &str| LayerNorm::new(&(weights / name), channels, 1e-5);
        let layer = architecture.layers.len();
        let block = TransformerBlock {
            norm1: norm("norm1")?,
            self_attention: Attention::new(&(weights / "attn1"), channels, channels, heads)?,
            norm2: norm("norm2")?,
            cross_attention: Attention::new(&(weights / "attn2"), channels, text, heads)?,
            norm3: norm("norm3")?,
            gate: Linear::new(&(weights / "ff.net.0.proj"), channels, 8 * channels, true)?,
            feed: Linear::new(&(weights / "ff.net.2"), 4 * channels, channels, true)?,
            layer,
        };
        architecture.layers.push(AttentionLayer {
            name: place.name(index),
            group: place.group.to_owned(),
            block: place.block,
            heads,
            channels,
        });
        for attention in AttentionKind::ALL {
            for projection in Projection::ALL {
                let path = (weights / key(attention)).key(key_of(projection));
                let reads_text =
                    attention == AttentionKind::Cross && matches!(projection, Projection::Key | Projection::Value);
                let shape = [channels, if reads_text { text } else { channels }];
                let target = Target { layer, attention, projection };
                architecture.targets.insert(target, TargetWeight { path, shape });
            }
        }
        Ok(block)
    }

    /// One of the block's attentions.
    pub fn attention(&self, which: AttentionKind) -> &Attention {
        match which {
            AttentionKind::Itself => &self.self_attention,
            AttentionKind::Cross => &self.cross_attention,
        }
    }

    /// Index of the block's cross-attention layer.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// `[I or B, n, c]` to `[B, n, c]`, or `None` if nothing more is wanted.
    fn forward(&self, x: &Tensor, pass: &Pass, recorder: &mut Recorder) -> Result<Option<Tensor>> {
        check_interrupt()?;
        let changes = |which| pass.patch.and_then(|patch| patch.of(self.layer, which));
        let y = self.self_attention.self_attention(&self.norm1.forward(x), changes(AttentionKind::Itself));
        let (x, y) = self.norm2.forward_of_sum(x, &y);
        let changes = changes(AttentionKind::Cross);
        let Some(y) = self.cross_attention.cross_attention(&y, pass.batch, changes, self.layer, recorder) else {
            return Ok(None);
        };
        let (x, y) = self.norm3.forward_of_sum(&pass.batch.by_row(&x), &y);
        Ok(Some(x + self.feed.forward(&geglu(&self.gate.forward(&y)))))
    }
}

/// The checkpoint's name of an attention.
fn key(attention: AttentionKind) -> &'static str {
    match attention {
        AttentionKind::Itself => "attn1",
        AttentionKind::Cross => "attn2",
    }
}

/// The checkpoint's name of a projection.
fn key_of(projection: Projection) -> &'static str {
    match projection {
        Projection::Query => "to_q",
        Projection::Key => "to_k",
        Projection::Value => "to_v",
        Projection::Out => "to_out.0",
    }
}
