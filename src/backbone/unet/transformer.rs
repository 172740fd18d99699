use tch::Tensor;

use super::super::attention::Attention;
use super::super::{Site, Taps};
use super::Pass;
use crate::Result;
use crate::checkpoint::{Scope, UNetConfig};
use crate::deltas::{Attention as Which, Target};
use crate::nn::{Conv2d, GroupNorm, LayerNorm, Linear, geglu};
use crate::torch::check_interrupt;

/// The spatial transformer: self-attention over image tokens, cross-attention to the text, a gated feed-forward.
pub struct Transformer {
    norm: GroupNorm,
    proj_in: Projection,
    norm1: LayerNorm,
    self_attention: Attention,
    norm2: LayerNorm,
    cross_attention: Attention,
    norm3: LayerNorm,
    gate: Linear,
    feed: Linear,
    proj_out: Projection,
    site: usize,
}

/// Stable Diffusion 1.x projects by a 1×1 convolution, 2.x by a linear layer; the sum is the same, the layout not.
enum Projection {
    Conv(Conv2d),
    Linear(Linear),
}

impl Projection {
    fn new(weights: &Scope, config: &UNetConfig, channels: i64) -> Result<Self> {
        Ok(if config.linear_projection {
            Projection::Linear(Linear::new(weights, channels, channels, true)?)
        } else {
            Projection::Conv(Conv2d::new(weights, channels, channels, 1)?)
        })
    }
}

impl Transformer {
    /// Reads one transformer and enters its site in `sites`.
    pub fn new(weights: &Scope, config: &UNetConfig, site: Site, sites: &mut Vec<Site>) -> Result<Self> {
        let (channels, heads, text) = (site.channels, site.heads, config.cross_attention_dim);
        let block = weights / "transformer_blocks.0";
        let norm = |name: &str| LayerNorm::new(&(&block / name), channels, 1e-5);
        let transformer = Transformer {
            norm: GroupNorm::new(&(weights / "norm"), config.norm_groups, channels, 1e-6)?,
            proj_in: Projection::new(&(weights / "proj_in"), config, channels)?,
            norm1: norm("norm1")?,
            self_attention: Attention::new(&(&block / "attn1"), channels, channels, heads)?,
            norm2: norm("norm2")?,
            cross_attention: Attention::new(&(&block / "attn2"), channels, text, heads)?,
            norm3: norm("norm3")?,
            gate: Linear::new(&(&block / "ff.net.0.proj"), channels, 8 * channels, true)?,
            feed: Linear::new(&(&block / "ff.net.2"), 4 * channels, channels, true)?,
            proj_out: Projection::new(&(weights / "proj_out"), config, channels)?,
            site: sites.len(),
        };
        sites.push(site);
        Ok(transformer)
    }

    /// The weight of one of its attentions.
    pub fn weight(&self, target: Target) -> &Tensor {
        let attention = match target.attention {
            Which::Itself => &self.self_attention,
            Which::Cross => &self.cross_attention,
        };
        attention.weight(target.projection)
    }

    /// `[I or B, c, h, w]` to `[B, c, h, w]`, or `None` if nothing more is wanted.
    pub fn forward(&self, x: &Tensor, pass: &Pass, taps: &mut Taps) -> Result<Option<Tensor>> {
        check_interrupt()?;
        let tokens = |x: &Tensor| x.flatten(2, 3).transpose(1, 2);
        let changes = |which| pass.patch.and_then(|patch| patch.of(self.site, which));
        let y = self.norm.forward(x);
        let y = match &self.proj_in {
            Projection::Conv(conv) => tokens(&conv.forward(&y)),
            Projection::Linear(linear) => linear.forward(&tokens(&y)),
        };
        let z = self.self_attention.to_itself(&self.norm1.forward(&y), changes(Which::Itself));
        let (y, z) = self.norm2.forward_of_sum(&y, &z);
        let Some(z) = self.cross_attention.to_text(&z, pass.batch, changes(Which::Cross), self.site, taps) else {
            return Ok(None);
        };
        let (y, z) = self.norm3.forward_of_sum(&pass.batch.by_row(&y), &z);
        let y = y + self.feed.forward(&geglu(&self.gate.forward(&z)));
        let x = pass.batch.by_row(x);
        let grid = |y: &Tensor| y.transpose(1, 2).reshape_as(&x);
        Ok(Some(match &self.proj_out {
            Projection::Conv(conv) => conv.forward(&grid(&y)) + &x,
            Projection::Linear(linear) => grid(&linear.forward(&y)) + &x,
        }))
    }
}
