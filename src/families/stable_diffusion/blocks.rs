//! The three kinds of block of a UNet.

use tch::Tensor;

use super::UNetConfig;
use super::config::BlockKind;
use super::resnet::Resnet;
use super::transformer::{Place, Transformer, TransformerBlock};
use crate::Result;
use crate::checkpoint::Scope;
use crate::deltas::Architecture;
use crate::denoiser::{Pass, Recorder};
use crate::nn::{Conv2d, upsample};

/// The tensors that one block hands to the next.
pub struct HiddenStates<'a> {
    /// `[I, c, h, w]` before the first cross-attention, `[B, c, h, w]` after it.
    pub x: &'a mut Tensor,
    /// The stack of skip connections: down blocks push hidden states, up blocks pop them.
    pub skips: &'a mut Vec<Tensor>,
}

/// Residual blocks, each followed by a transformer if the block has cross-attention.
struct Layers {
    resnets: Vec<Resnet>,
    transformers: Vec<Option<Transformer>>,
}

impl Layers {
    /// Reads the layers; `inputs` are the input channels of each residual block.
    fn new(
        weights: &Scope,
        config: &UNetConfig,
        kind: BlockKind,
        inputs: &[i64],
        place: impl Fn(usize) -> Place,
        architecture: &mut Architecture,
    ) -> Result<Self> {
        let mut layers = Layers { resnets: vec![], transformers: vec![] };
        for (i, &inputs) in inputs.iter().enumerate() {
            let place = place(i);
            layers.resnets.push(Resnet::new(&(&(weights / "resnets") / i), config, inputs, place.channels, 1.0)?);
            layers.transformers.push(match kind {
                BlockKind::Plain => None,
                BlockKind::CrossAttention => {
                    Some(Transformer::new(&(&(weights / "attentions") / i), config, &place, architecture)?)
                }
            });
        }
        Ok(layers)
    }

    fn transformer_blocks(&self) -> impl Iterator<Item = &TransformerBlock> {
        self.transformers.iter().flatten().flat_map(Transformer::blocks)
    }

    fn each(&self) -> impl Iterator<Item = (&Resnet, Option<&Transformer>)> {
        self.resnets.iter().zip(self.transformers.iter().map(Option::as_ref))
    }
}

/// A down block, which pushes its hidden states on `skips`.
pub struct DownBlock {
    layers: Layers,
    down: Option<Conv2d>,
    /// Whether the convolution that halves the size pads all sides.
    padded: bool,
}

impl DownBlock {
    pub fn new(weights: &Scope, config: &UNetConfig, block: usize, architecture: &mut Architecture) -> Result<Self> {
        let channels = &config.block_channels;
        let (inputs, outputs) = (channels[block.saturating_sub(1)], channels[block]);
        let mut into = vec![outputs; config.layers_per_block as usize];
        into[0] = inputs;
        let place = |transformer| Place {
            group: "down",
            block,
            transformer,
            blocks: config.transformer_blocks[block],
            heads: config.heads[block],
            channels: outputs,
        };
        let layers = Layers::new(weights, config, config.down_blocks[block], &into, place, architecture)?;
        let down = if block + 1 < channels.len() {
            let conv = Conv2d::new(&(weights / "downsamplers.0.conv"), outputs, outputs, 3)?;
            Some(conv.strided(2, config.downsample_padding))
        } else {
            None
        };
        Ok(DownBlock { layers, down, padded: config.downsample_padding != 0 })
    }

    pub fn transformer_blocks(&self) -> impl Iterator<Item = &TransformerBlock> {
        self.layers.transformer_blocks()
    }

    /// Runs the block; returns false if the recorder wants nothing more.
    pub fn forward(&self, hidden: &mut HiddenStates, pass: &Pass, recorder: &mut Recorder) -> Result<bool> {
        for (resnet, transformer) in self.layers.each() {
            *hidden.x = resnet.forward(hidden.x, time(pass), pass.batch)?;
            if let Some(transformer) = transformer {
                let Some(y) = transformer.forward(hidden.x, pass, recorder)? else {
                    return Ok(false);
                };
                *hidden.x = y;
            }
            hidden.skips.push(hidden.x.shallow_clone());
        }
        if let Some(down) = &self.down {
            *hidden.x = match self.padded {
                true => down.forward(hidden.x),
                // Without padding, diffusers pads on the right and at the bottom.
                false => down.forward(&hidden.x.constant_pad_nd([0, 1, 0, 1])),
            };
            hidden.skips.push(hidden.x.shallow_clone());
        }
        Ok(true)
    }
}

/// The mid block: residual block, transformer, residual block.
pub struct MidBlock {
    resnet0: Resnet,
    transformer: Transformer,
    resnet1: Resnet,
}

impl MidBlock {
    pub fn new(weights: &Scope, config: &UNetConfig, architecture: &mut Architecture) -> Result<Self> {
        let last = config.block_channels.len() - 1;
        let channels = config.block_channels[last];
        let resnet =
            |i: usize| Resnet::new(&(&(weights / "resnets") / i), config, channels, channels, config.mid_scale);
        let place = Place {
            group: "mid",
            block: 0,
            transformer: 0,
            blocks: config.transformer_blocks[last],
            heads: config.heads[last],
            channels,
        };
        Ok(MidBlock {
            resnet0: resnet(0)?,
            transformer: Transformer::new(&(weights / "attentions.0"), config, &place, architecture)?,
            resnet1: resnet(1)?,
        })
    }

    pub fn transformer_blocks(&self) -> impl Iterator<Item = &TransformerBlock> {
        self.transformer.blocks().iter()
    }

    /// Runs the block; returns false if the recorder wants nothing more.
    pub fn forward(&self, hidden: &mut HiddenStates, pass: &Pass, recorder: &mut Recorder) -> Result<bool> {
        let x = self.resnet0.forward(hidden.x, time(pass), pass.batch)?;
        let Some(x) = self.transformer.forward(&x, pass, recorder)? else {
            return Ok(false);
        };
        *hidden.x = self.resnet1.forward(&x, time(pass), pass.batch)?;
        Ok(true)
    }
}

/// An up block, in which every residual block pops a hidden state from `skips`.
pub struct UpBlock {
    layers: Layers,
    up: Option<Conv2d>,
}

impl UpBlock {
    pub fn new(weights: &Scope, config: &UNetConfig, block: usize, architecture: &mut Architecture) -> Result<Self> {
        let levels = config.block_channels.len();
        // Up blocks mirror down blocks; the indices below are those of down blocks.
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
        let place = |transformer| Place {
            group: "up",
            block,
            transformer,
            blocks: config.transformer_blocks[level],
            heads: config.heads[level],
            channels: outputs,
        };
        let layers = Layers::new(weights, config, config.up_blocks[block], &into, place, architecture)?;
        let up = if block + 1 < levels {
            Some(Conv2d::new(&(weights / "upsamplers.0.conv"), outputs, outputs, 3)?)
        } else {
            None
        };
        Ok(UpBlock { layers, up })
    }

    pub fn transformer_blocks(&self) -> impl Iterator<Item = &TransformerBlock> {
        self.layers.transformer_blocks()
    }

    /// Runs the block; returns false if the recorder wants nothing more.
    pub fn forward(&self, hidden: &mut HiddenStates, pass: &Pass, recorder: &mut Recorder) -> Result<bool> {
        for (resnet, transformer) in self.layers.each() {
            let skip = hidden.skips.pop().expect("down blocks push one hidden state for every residual block here");
            // Hidden states from before the first cross-attention have one entry per latent, not per row.
            let skip = pass.batch.beside(&skip, hidden.x);
            let x = Tensor::cat(&[&*hidden.x, &skip], 1);
            *hidden.x = resnet.forward(&x, time(pass), pass.batch)?;
            if let Some(transformer) = transformer {
                let Some(y) = transformer.forward(hidden.x, pass, recorder)? else {
                    return Ok(false);
                };
                *hidden.x = y;
            }
        }
        if let Some(up) = &self.up {
            // The size is that of the next skip connection: latents need not be divisible by 2 at every level.
            let (_, _, height, width) =
                hidden.skips.last().expect("a level above has hidden states left").size4().expect("4-d");
            *hidden.x = up.forward(&upsample(hidden.x, [height, width]));
        }
        Ok(true)
    }
}

/// The time embedding of a pass, `[I or B, 4c]`.
fn time<'a>(pass: &'a Pass) -> &'a Tensor {
    &pass.shared[0]
}
