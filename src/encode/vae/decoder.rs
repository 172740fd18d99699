use tch::{Device, Kind, Tensor};

use super::VaeConfig;
use super::blocks::{EPS, Middle, Resnet};
use crate::checkpoint::{Checkpoint, Scope};
use crate::nn::{Conv2d, GroupNorm, upsample};
use crate::{Error, Result};

/// Scaled latents `z` `[B, C, h, w]` to images `D(z/s + c)` `[B, 3, H, W]`, approximately in [−1, 1].
pub struct VaeDecoder {
    post_quant: Option<Conv2d>,
    conv_in: Conv2d,
    mid: Middle,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    scaling_factor: f64,
    shift_factor: f64,
}

impl VaeDecoder {
    /// Reads the decoder's half of the part `vae`.
    ///
    /// # Errors
    /// `Checkpoint`, naming the key, if a weight is missing, has another shape or is not used.
    pub fn new(checkpoint: &Checkpoint, config: &VaeConfig, device: Device, kind: Kind) -> Result<Self> {
        if config.out_channels != 3 {
            return Err(Error::Checkpoint(format!(
                "{}: the VAE gives {} channels (out_channels); an image has 3",
                checkpoint.dir().display(),
                config.out_channels
            )));
        }
        let weights = checkpoint.weights("vae", device, kind)?;
        let root = weights.root();
        let decoder = &root / "decoder";
        let (first, last) = (config.block_channels[0], config.last_channels());
        let latent = config.latent_channels;
        let vae = VaeDecoder {
            post_quant: if config.post_quant_conv {
                Some(Conv2d::new(&(&root / "post_quant_conv"), latent, latent, 1)?)
            } else {
                None
            },
            conv_in: Conv2d::new(&(&decoder / "conv_in"), latent, last, 3)?,
            mid: Middle::new(&(&decoder / "mid_block"), config)?,
            up: (0..config.block_channels.len())
                .map(|i| UpBlock::new(&(&(&decoder / "up_blocks") / i), config, i))
                .collect::<Result<_>>()?,
            norm_out: GroupNorm::new(&(&decoder / "conv_norm_out"), config.norm_groups, first, EPS)?,
            conv_out: Conv2d::new(&(&decoder / "conv_out"), first, config.out_channels, 3)?,
            scaling_factor: config.scaling_factor,
            shift_factor: config.shift_factor,
        };
        // The other half is the encoder.
        weights.finish(|key| key.starts_with("encoder.") || key.starts_with("quant_conv."))?;
        Ok(vae)
    }

    /// Latents `[B, C, h, w]`, scaled and shifted as the encoder's, to `[B, 3, h·f, w·f]`.
    ///
    /// # Errors
    /// `Interrupted`, if the user asked for it.
    pub fn forward(&self, latents: &Tensor) -> Result<Tensor> {
        let mut x = latents / self.scaling_factor + self.shift_factor;
        if let Some(post_quant) = &self.post_quant {
            x = post_quant.forward(&x);
        }
        x = self.mid.forward(&self.conv_in.forward(&x))?;
        for block in &self.up {
            x = block.forward(x)?;
        }
        Ok(self.conv_out.forward(&self.norm_out.forward_silu(&x)))
    }
}

struct UpBlock {
    resnets: Vec<Resnet>,
    up: Option<Conv2d>,
}

impl UpBlock {
    fn new(weights: &Scope, config: &VaeConfig, index: usize) -> Result<Self> {
        let levels = config.block_channels.len();
        // The way up mirrors the way down.
        let channels = |block: usize| config.block_channels[levels - 1 - block];
        let (inputs, outputs) = (channels(index.saturating_sub(1)), channels(index));
        let resnets = (0..=config.layers_per_block)
            .map(|i| {
                let inputs = if i == 0 { inputs } else { outputs };
                Resnet::new(&(&(weights / "resnets") / i), config.norm_groups, inputs, outputs)
            })
            .collect::<Result<_>>()?;
        let up = if index + 1 < levels {
            Some(Conv2d::new(&(weights / "upsamplers.0.conv"), outputs, outputs, 3)?)
        } else {
            None
        };
        Ok(UpBlock { resnets, up })
    }

    fn forward(&self, mut x: Tensor) -> Result<Tensor> {
        for resnet in &self.resnets {
            x = resnet.forward(&x)?;
        }
        Ok(match &self.up {
            Some(up) => {
                let (_, _, height, width) = x.size4().expect("images are [B, c, h, w]");
                up.forward(&upsample(&x, [2 * height, 2 * width]))
            }
            None => x,
        })
    }
}
