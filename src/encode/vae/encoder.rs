use tch::{Device, Kind, Tensor};

use super::VaeConfig;
use super::blocks::{EPS, Middle, Resnet};
use crate::Result;
use crate::checkpoint::{Checkpoint, Scope};
use crate::nn::{Conv2d, GroupNorm};

/// Images in [−1, 1] `[B, 3, H, W]` to scaled latents `[B, C, h, w]`, the mean of the encoder's posterior.
pub struct VaeEncoder {
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    mid: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    quant: Option<Conv2d>,
    latent_channels: i64,
    scaling_factor: f64,
    shift_factor: f64,
    parameters: usize,
}

impl VaeEncoder {
    /// Reads the encoder's half of the part `vae`.
    ///
    /// # Errors
    /// `Checkpoint`, naming the key, if a weight is missing, has another shape or is not used.
    pub fn new(checkpoint: &Checkpoint, config: &VaeConfig, device: Device, kind: Kind) -> Result<Self> {
        let weights = checkpoint.weights("vae", device, kind)?;
        let root = weights.root();
        let encoder = &root / "encoder";
        let channels = &config.block_channels;
        let last = config.last_channels();
        let moments = 2 * config.latent_channels;
        let vae = VaeEncoder {
            conv_in: Conv2d::new(&(&encoder / "conv_in"), config.in_channels, channels[0], 3)?,
            down: (0..channels.len())
                .map(|i| DownBlock::new(&(&(&encoder / "down_blocks") / i), config, i))
                .collect::<Result<_>>()?,
            mid: Middle::new(&(&encoder / "mid_block"), config)?,
            norm_out: GroupNorm::new(&(&encoder / "conv_norm_out"), config.norm_groups, last, EPS)?,
            conv_out: Conv2d::new(&(&encoder / "conv_out"), last, moments, 3)?,
            quant: if config.quant_conv {
                Some(Conv2d::new(&(&root / "quant_conv"), moments, moments, 1)?)
            } else {
                None
            },
            latent_channels: config.latent_channels,
            scaling_factor: config.scaling_factor,
            shift_factor: config.shift_factor,
            parameters: weights.parameters_used(),
        };
        // The other half is the decoder, which scoring never runs.
        weights.finish(|key| key.starts_with("decoder.") || key.starts_with("post_quant_conv."))?;
        Ok(vae)
    }

    /// `[B, 3, H, W]` in [−1, 1] to `[B, C, H/f, W/f]`.
    ///
    /// # Errors
    /// `Interrupted`, if the user asked for it.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(x);
        for block in &self.down {
            x = block.forward(x)?;
        }
        x = self.mid.forward(&x)?;
        x = self.conv_out.forward(&self.norm_out.forward_silu(&x));
        if let Some(quant) = &self.quant {
            x = quant.forward(&x);
        }
        Ok((x.narrow(1, 0, self.latent_channels) - self.shift_factor) * self.scaling_factor)
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.parameters
    }
}

struct DownBlock {
    resnets: Vec<Resnet>,
    down: Option<Conv2d>,
}

impl DownBlock {
    fn new(weights: &Scope, config: &VaeConfig, index: usize) -> Result<Self> {
        let channels = &config.block_channels;
        let (inputs, outputs) = (channels[index.saturating_sub(1)], channels[index]);
        let resnets = (0..config.layers_per_block)
            .map(|i| {
                let inputs = if i == 0 { inputs } else { outputs };
                Resnet::new(&(&(weights / "resnets") / i), config.norm_groups, inputs, outputs)
            })
            .collect::<Result<_>>()?;
        let down = if index + 1 < channels.len() {
            Some(Conv2d::new(&(weights / "downsamplers.0.conv"), outputs, outputs, 3)?.strided(2, 0))
        } else {
            None
        };
        Ok(DownBlock { resnets, down })
    }

    fn forward(&self, mut x: Tensor) -> Result<Tensor> {
        for resnet in &self.resnets {
            x = resnet.forward(&x)?;
        }
        Ok(match &self.down {
            // The stride-2 convolution is padded on the right and at the bottom alone.
            Some(down) => down.forward(&x.constant_pad_nd([0, 1, 0, 1])),
            None => x,
        })
    }
}
