//! The three kinds of block that a UNet is made of.

use tch::Tensor;

use super::super::{Hidden, Site, Stage, Taps};
use super::Pass;
use super::resnet::Resnet;
use super::transformer::Transformer;
use crate::Result;
use crate::checkpoint::{BlockKind, Scope, UNetConfig};
use crate::nn::{Conv2d, upsample};

/// Residual blocks, each with a transformer where the block has cross-attention.
struct Layers {
    resnets: Vec<Resnet>,
    transformers: Vec<Option<Transformer>>,
}

impl Layers {
    /// `inputs` are the channels that go into each residual block.
    fn new(
        weights: &Scope,
        config: &UNetConfig,
        kind: BlockKind,
        inputs: &[i64],
        site: impl Fn(usize) -> Site,
        sites: &mut Vec<Site>,
    ) -> Result<Self> {
        let mut layers = Layers { resnets: vec![], transformers: vec![] };
        for (i, &inputs) in inputs.iter().enumerate() {
            let site = site(i);
            layers.resnets.push(Resnet::new(&(&(weights / "resnets") / i), config, inputs, site.channels, 1.0)?);
            layers.transformers.push(match kind {
                BlockKind::Plain => None,
                BlockKind::CrossAttention => {
                    Some(Transformer::new(&(&(weights / "attentions") / i), config, site, sites)?)
                }
            });
        }
        Ok(layers)
    }

    fn transformers(&self) -> impl Iterator<Item = &Transformer> {
        self.transformers.iter().flatten()
    }

    fn each(&self) -> impl Iterator<Item = (&Resnet, Option<&Transformer>)> {
        self.resnets.iter().zip(self.transformers.iter().map(Option::as_ref))
    }
}

/// One level on the way down; every hidden state is kept in `skips`.
pub struct DownBlock {
    layers: Layers,
    down: Option<Conv2d>,
    /// Whether the convolution that halves the size pads every side.
    padded: bool,
}

impl DownBlock {
    pub fn new(weights: &Scope, config: &UNetConfig, block: usize, sites: &mut Vec<Site>) -> Result<Self> {
        let channels = &config.block_channels;
        let (inputs, outputs) = (channels[block.saturating_sub(1)], channels[block]);
        let mut into = vec![outputs; config.layers_per_block as usize];
        into[0] = inputs;
        let site = |layer| Site { stage: Stage::Down, block, layer, heads: config.heads[block], channels: outputs };
        let layers = Layers::new(weights, config, config.down_blocks[block], &into, site, sites)?;
        let down = if block + 1 < channels.len() {
            let conv = Conv2d::new(&(weights / "downsamplers.0.conv"), outputs, outputs, 3)?;
            Some(conv.strided(2, config.downsample_padding))
        } else {
            None
        };
        Ok(DownBlock { layers, down, padded: config.downsample_padding != 0 })
    }

    pub fn transformers(&self) -> impl Iterator<Item = &Transformer> {
        self.layers.transformers()
    }

    /// Whether anything is left to do.
    pub fn forward(&self, hidden: &mut Hidden, pass: &Pass, taps: &mut Taps) -> Result<bool> {
        for (resnet, transformer) in self.layers.each() {
            hidden.x = resnet.forward(&hidden.x, &pass.time, pass.batch)?;
            if let Some(transformer) = transformer {
                let Some(y) = transformer.forward(&hidden.x, pass, taps)? else {
                    return Ok(false);
                };
                hidden.x = y;
            }
            hidden.skips.push(hidden.x.shallow_clone());
        }
        if let Some(down) = &self.down {
            hidden.x = match self.padded {
                true => down.forward(&hidden.x),
                // On the right and at the bottom alone, as diffusers does then.
                false => down.forward(&hidden.x.constant_pad_nd([0, 1, 0, 1])),
            };
            hidden.skips.push(hidden.x.shallow_clone());
        }
        Ok(true)
    }
}

/// The bottom: residual block, transformer, residual block.
pub struct MidBlock {
    resnet0: Resnet,
    transformer: Transformer,
    resnet1: Resnet,
}

impl MidBlock {
    pub fn new(weights: &Scope, config: &UNetConfig, sites: &mut Vec<Site>) -> Result<Self> {
        let last = config.block_channels.len() - 1;
        let channels = config.block_channels[last];
        let resnet =
            |i: usize| Resnet::new(&(&(weights / "resnets") / i), config, channels, channels, config.mid_scale);
        let site = Site { stage: Stage::Mid, block: 0, layer: 0, heads: config.heads[last], channels };
        Ok(MidBlock {
            resnet0: resnet(0)?,
            transformer: Transformer::new(&(weights / "attentions.0"), config, site, sites)?,
            resnet1: resnet(1)?,
        })
    }

    pub fn transformers(&self) -> impl Iterator<Item = &Transformer> {
        std::iter::once(&self.transformer)
    }

    /// Whether anything is left to do.
    pub fn forward(&self, hidden: &mut Hidden, pass: &Pass, taps: &mut Taps) -> Result<bool> {
        let x = self.resnet0.forward(&hidden.x, &pass.time, pass.batch)?;
        let Some(x) = self.transformer.forward(&x, pass, taps)? else {
            return Ok(false);
        };
        hidden.x = self.resnet1.forward(&x, &pass.time, pass.batch)?;
        Ok(true)
    }
}

/// One level on the way up; every residual block takes a hidden state back from `skips`.
pub struct UpBlock {
    layers: Layers,
    up: Option<Conv2d>,
}

impl UpBlock {
    pub fn new(weights: &Scope, config: &UNetConfig, block: usize, sites: &mut Vec<Site>) -> Result<Self> {
        let levels = config.block_channels.len();
        // The way up mirrors the way down; indices below are those of the way down.
        let level = levels - 1 - block;
        let outputs = config.block_channels[level];
        let from_below = config.block_channels[(level + 1).min(levels - 1)];
        let above = config.block_channels[level.saturating_sub(1)];
        let count = config.layers_per_block as usize + 1;
        let into: Vec<i64> = (0..count)
            .map(|i| {
                let below = if i == 0 { from_below } else { outputs };
                let skip = if i + 1 == count { above } else { outputs };
                below + skip
            })
            .collect();
        let site = |layer| Site { stage: Stage::Up, block, layer, heads: config.heads[level], channels: outputs };
        let layers = Layers::new(weights, config, config.up_blocks[block], &into, site, sites)?;
        let up = if block + 1 < levels {
            Some(Conv2d::new(&(weights / "upsamplers.0.conv"), outputs, outputs, 3)?)
        } else {
            None
        };
        Ok(UpBlock { layers, up })
    }

    pub fn transformers(&self) -> impl Iterator<Item = &Transformer> {
        self.layers.transformers()
    }

    /// Number of hidden states that it takes back.
    pub fn takes(&self) -> usize {
        self.layers.resnets.len()
    }

    /// Whether anything is left to do.
    pub fn forward(&self, hidden: &mut Hidden, pass: &Pass, taps: &mut Taps) -> Result<bool> {
        for (resnet, transformer) in self.layers.each() {
            let skip = hidden.skips.pop().expect("the way down left one hidden state for every block on the way up");
            // What was kept before the first text came in is by latent still.
            let skip = pass.batch.beside(&skip, &hidden.x);
            let x = Tensor::cat(&[&hidden.x, &skip], 1);
            hidden.x = resnet.forward(&x, &pass.time, pass.batch)?;
            if let Some(transformer) = transformer {
                let Some(y) = transformer.forward(&hidden.x, pass, taps)? else {
                    return Ok(false);
                };
                hidden.x = y;
            }
        }
        if let Some(up) = &self.up {
            // To the size of the hidden state it will meet: latents need not be divisible by 2 at every level.
            let (_, _, height, width) =
                hidden.skips.last().expect("a level above has hidden states left").size4().expect("4-d");
            hidden.x = up.forward(&upsample(&hidden.x, [height, width]));
        }
        Ok(true)
    }
}
