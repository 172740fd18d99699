use tch::{Kind, Tensor};

use crate::Result;
use crate::checkpoint::{Scope, UNetConfig};
use crate::nn::Linear;

/// Timesteps `[B]` to vectors `[B, 4c]`: sinusoids (Vaswani et al. 2017, section 3.5), then two linear layers.
pub struct TimeEmbedding {
    linear1: Linear,
    linear2: Linear,
    channels: i64,
    flip_sin_to_cos: bool,
    freq_shift: f64,
}

impl TimeEmbedding {
    pub fn new(weights: &Scope, config: &UNetConfig) -> Result<Self> {
        let (channels, width) = (config.block_channels[0], config.time_dim());
        Ok(TimeEmbedding {
            linear1: Linear::new(&(weights / "linear_1"), channels, width, true)?,
            linear2: Linear::new(&(weights / "linear_2"), width, width, true)?,
            channels,
            flip_sin_to_cos: config.flip_sin_to_cos,
            freq_shift: config.freq_shift,
        })
    }

    pub fn forward(&self, timesteps: &Tensor, kind: Kind) -> Tensor {
        let half = self.channels / 2;
        let exponent = Tensor::arange(half, (Kind::Float, timesteps.device())) * -(10_000f64.ln());
        let frequencies = (exponent / (half as f64 - self.freq_shift)).exp();
        let angles = timesteps.to_kind(Kind::Float).unsqueeze(1) * frequencies.unsqueeze(0);
        let (sin, cos) = (angles.sin(), angles.cos());
        let waves = if self.flip_sin_to_cos { Tensor::cat(&[cos, sin], 1) } else { Tensor::cat(&[sin, cos], 1) };
        self.linear2.forward(&self.linear1.forward(&waves.to_kind(kind)).silu())
    }
}
