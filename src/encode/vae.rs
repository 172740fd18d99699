//! The encoder of AutoencoderKL (Rombach et al. 2022, section 3.1): an image becomes the latent `z = s·E(x)`.

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::checkpoint::{Checkpoint, Scope, VaeConfig};
use crate::nn::{Conv2d, GroupNorm, Linear};
use crate::torch::check_interrupt;

/// Every norm of the autoencoder uses this, whatever the configuration says.
const EPS: f64 = 1e-6;

/// Images in [−1, 1] `[B, 3, H, W]` to scaled latents `[B, C, h, w]`, the mean of the encoder's posterior.
pub struct VaeEncoder {
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    mid: (Resnet, Option<Attention>, Resnet),
    norm_out: GroupNorm,
    conv_out: Conv2d,
    quant: Option<Conv2d>,
    latent_channels: i64,
    scaling_factor: f64,
    parameters: usize,
}

impl VaeEncoder {
    /// Reads the encoder's half of the part `vae`.
    pub fn new(checkpoint: &Checkpoint, device: Device, kind: Kind) -> Result<Self> {
        let config = &checkpoint.vae;
        let weights = checkpoint.weights("vae", device, kind)?;
        let root = weights.root();
        let encoder = &root / "encoder";
        let channels = &config.block_channels;
        let last = *channels.last().expect("the configuration has at least one block");
        let mid = &encoder / "mid_block";
        let attention = if config.mid_attention {
            Some(Attention::new(&(&mid / "attentions.0"), config.norm_groups, last)?)
        } else {
            None
        };
        let moments = 2 * config.latent_channels;
        let vae = VaeEncoder {
            conv_in: Conv2d::new(&(&encoder / "conv_in"), config.in_channels, channels[0], 3)?,
            down: (0..channels.len())
                .map(|i| DownBlock::new(&(&(&encoder / "down_blocks") / i), config, i))
                .collect::<Result<_>>()?,
            mid: (
                Resnet::new(&(&mid / "resnets.0"), config.norm_groups, last, last)?,
                attention,
                Resnet::new(&(&mid / "resnets.1"), config.norm_groups, last, last)?,
            ),
            norm_out: GroupNorm::new(&(&encoder / "conv_norm_out"), config.norm_groups, last, EPS)?,
            conv_out: Conv2d::new(&(&encoder / "conv_out"), last, moments, 3)?,
            quant: if config.quant_conv {
                Some(Conv2d::new(&(&root / "quant_conv"), moments, moments, 1)?)
            } else {
                None
            },
            latent_channels: config.latent_channels,
            scaling_factor: config.scaling_factor,
            parameters: weights.parameters_used(),
        };
        // The other half is the decoder, which scoring never runs.
        weights.finish(|key| key.starts_with("decoder.") || key.starts_with("post_quant_conv."))?;
        Ok(vae)
    }

    /// `[B, 3, H, W]` in [−1, 1] to `[B, C, H/f, W/f]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(x);
        for block in &self.down {
            x = block.forward(x)?;
        }
        x = self.mid.0.forward(&x)?;
        if let Some(attention) = &self.mid.1 {
            x = attention.forward(&x);
        }
        x = self.mid.2.forward(&x)?;
        x = self.conv_out.forward(&self.norm_out.forward_silu(&x));
        if let Some(quant) = &self.quant {
            x = quant.forward(&x);
        }
        Ok(x.narrow(1, 0, self.latent_channels) * self.scaling_factor)
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

struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Resnet {
    fn new(weights: &Scope, groups: i64, inputs: i64, outputs: i64) -> Result<Self> {
        Ok(Resnet {
            norm1: GroupNorm::new(&(weights / "norm1"), groups, inputs, EPS)?,
            conv1: Conv2d::new(&(weights / "conv1"), inputs, outputs, 3)?,
            norm2: GroupNorm::new(&(weights / "norm2"), groups, outputs, EPS)?,
            conv2: Conv2d::new(&(weights / "conv2"), outputs, outputs, 3)?,
            shortcut: if inputs == outputs {
                None
            } else {
                Some(Conv2d::new(&(weights / "conv_shortcut"), inputs, outputs, 1)?)
            },
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        check_interrupt()?;
        let y = self.conv1.forward(&self.norm1.forward_silu(x));
        let y = self.conv2.forward(&self.norm2.forward_silu(&y));
        Ok(match &self.shortcut {
            Some(shortcut) => shortcut.forward(x) + y,
            None => x + y,
        })
    }
}

/// Self-attention over all latent pixels, one head.
struct Attention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl Attention {
    fn new(weights: &Scope, groups: i64, channels: i64) -> Result<Self> {
        // Files written before diffusers 0.16 use the second set of names.
        let new_names = weights.has("to_q.weight");
        let linear = |new: &str, old: &str| {
            let name = if new_names { new } else { old };
            Linear::new(&(weights / name), channels, channels, true)
        };
        Ok(Attention {
            norm: GroupNorm::new(&(weights / "group_norm"), groups, channels, EPS)?,
            q: linear("to_q", "query")?,
            k: linear("to_k", "key")?,
            v: linear("to_v", "value")?,
            out: linear("to_out.0", "proj_attn")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let y = self.norm.forward(x).flatten(2, 3).transpose(1, 2);
        let heads = |linear: &Linear| linear.forward(&y).unsqueeze(1);
        let (q, k, v) = (heads(&self.q), heads(&self.k), heads(&self.v));
        let y = Tensor::scaled_dot_product_attention::<Tensor>(&q, &k, &v, None, 0.0, false, None, false);
        x + self.out.forward(&y.squeeze_dim(1)).transpose(1, 2).reshape_as(x)
    }
}
