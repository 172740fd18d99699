use tch::Tensor;

use super::UNetConfig;
use crate::Result;
use crate::checkpoint::Scope;
use crate::denoiser::Batch;
use crate::nn::{Conv2d, DeferredBias, GroupNorm, Linear};
use crate::runtime::check_interrupt;

/// A residual block (He et al. 2016) in which the time embedding is added between its two convolutions.
pub struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
    scale: f64,
}

impl Resnet {
    /// Reads the block. `scale` divides the sum at the end; it differs from 1 only in the mid block of some models.
    pub fn new(weights: &Scope, config: &UNetConfig, inputs: i64, outputs: i64, scale: f64) -> Result<Self> {
        let (groups, eps) = (config.norm_groups, config.norm_eps);
        Ok(Resnet {
            norm1: GroupNorm::new(&(weights / "norm1"), groups, inputs, eps)?,
            conv1: Conv2d::new(&(weights / "conv1"), inputs, outputs, 3)?,
            time: Linear::new(&(weights / "time_emb_proj"), config.time_dim(), outputs, true)?,
            norm2: GroupNorm::new(&(weights / "norm2"), groups, outputs, eps)?,
            conv2: Conv2d::new(&(weights / "conv2"), outputs, outputs, 3)?,
            shortcut: if inputs == outputs {
                None
            } else {
                Some(Conv2d::new(&(weights / "conv_shortcut"), inputs, outputs, 1)?)
            },
            scale,
        })
    }

    /// `x` `[I or B, in, h, w]` and time `[I or B, 4c]` to `[I or B, out, h, w]`.
    pub fn forward(&self, x: &Tensor, time: &Tensor, batch: &Batch) -> Result<Tensor> {
        check_interrupt()?;
        let y = self.conv1.forward_deferring_bias(&self.norm1.forward_silu(x));
        let time = batch.beside(&self.time.forward(&time.silu()), x);
        let y = self.conv2.forward_deferring_bias(&self.norm2.forward_silu_of_sum(y, Some(&time)));
        let x =
            self.shortcut.as_ref().map_or_else(|| DeferredBias::from(x), |shortcut| shortcut.forward_deferring_bias(x));
        let sum = x.plus(y);
        Ok(if self.scale == 1.0 { sum } else { sum / self.scale })
    }
}
