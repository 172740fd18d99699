use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::checkpoint::{Scope, UNetConfig};
use crate::nn::Linear;

/// Timesteps `[B]` to vectors `[B, 4c]`: sinusoids (Vaswani et al. 2017, section 3.5), then two linear layers. Latent
/// consistency models add the guidance scale to the sinusoids (Luo et al. 2023, section 4.2).
pub struct TimeEmbedding {
    guidance: Option<Guidance>,
    linear1: Linear,
    linear2: Linear,
    channels: i64,
    flip_sin_to_cos: bool,
    freq_shift: f64,
}

impl TimeEmbedding {
    pub fn new(weights: &Scope, config: &UNetConfig) -> Result<Self> {
        let (channels, width) = (config.block_channels[0], config.time_dim());
        let guidance = match config.guidance_dim {
            None => None,
            Some(inputs) => {
                Some(Guidance { linear: Linear::new(&(weights / "cond_proj"), inputs, channels, false)?, inputs })
            }
        };
        Ok(TimeEmbedding {
            guidance,
            linear1: Linear::new(&(weights / "linear_1"), channels, width, true)?,
            linear2: Linear::new(&(weights / "linear_2"), width, width, true)?,
            channels,
            flip_sin_to_cos: config.flip_sin_to_cos,
            freq_shift: config.freq_shift,
        })
    }

    /// `scale` is the guidance scale; models without that input do not read it.
    pub fn forward(&self, timesteps: &Tensor, scale: f64, kind: Kind) -> Tensor {
        let half = self.channels / 2;
        let exponent = Tensor::arange(half, (Kind::Float, timesteps.device())) * -(10_000f64.ln());
        let frequencies = (exponent / (half as f64 - self.freq_shift)).exp();
        let angles = timesteps.to_kind(Kind::Float).unsqueeze(1) * frequencies.unsqueeze(0);
        let (sin, cos) = (angles.sin(), angles.cos());
        let waves = if self.flip_sin_to_cos { Tensor::cat(&[cos, sin], 1) } else { Tensor::cat(&[sin, cos], 1) };
        let mut waves = waves.to_kind(kind);
        if let Some(guidance) = &self.guidance {
            waves += guidance.forward(scale, timesteps.device(), kind);
        }
        self.linear2.forward(&self.linear1.forward(&waves).silu())
    }
}

/// The guidance scale as an input.
struct Guidance {
    linear: Linear,
    inputs: i64,
}

impl Guidance {
    /// `[1, c]` of `w = scale − 1`, whose sinusoids count in thousands; scale 1 is no guidance.
    fn forward(&self, scale: f64, device: Device, kind: Kind) -> Tensor {
        let half = self.inputs / 2;
        // In float32 and in this order, as diffusers does: angles are in the thousands, and rounding shows.
        let step = Tensor::from(10_000f32).log() / (half - 1) as f64;
        let frequencies = (Tensor::arange(half, (Kind::Float, Device::Cpu)) * -step).exp();
        let angles = Tensor::from((scale - 1.0) as f32) * 1000.0 * frequencies;
        let waves = Tensor::cat(&[angles.sin(), angles.cos()], 0).constant_pad_nd([0, self.inputs % 2]);
        self.linear.forward(&waves.unsqueeze(0).to_device(device).to_kind(kind))
    }
}
