use tch::Tensor;

use super::VaeConfig;
use crate::Result;
use crate::checkpoint::Scope;
use crate::nn::{Conv2d, DeferredBias, GroupNorm, Linear, attention};
use crate::runtime::check_interrupt;

/// `ε` of every norm of the autoencoder; the configuration has no field for it.
pub const EPS: f64 = 1e-6;

/// The middle of either half: two residual blocks, perhaps with attention between them.
pub struct Middle {
    resnet0: Resnet,
    attention: Option<Attention>,
    resnet1: Resnet,
}

impl Middle {
    pub fn new(weights: &Scope, config: &VaeConfig) -> Result<Self> {
        let (groups, channels) = (config.norm_groups, config.last_channels());
        Ok(Middle {
            resnet0: Resnet::new(&(weights / "resnets.0"), groups, channels, channels)?,
            attention: if config.mid_attention {
                Some(Attention::new(&(weights / "attentions.0"), groups, channels)?)
            } else {
                None
            },
            resnet1: Resnet::new(&(weights / "resnets.1"), groups, channels, channels)?,
        })
    }

    /// Keeps the shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.resnet0.forward(x)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x);
        }
        self.resnet1.forward(&x)
    }
}

/// A residual block (He et al. 2016) without time.
pub struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Resnet {
    pub fn new(weights: &Scope, groups: i64, inputs: i64, outputs: i64) -> Result<Self> {
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

    /// `[B, in, h, w]` to `[B, out, h, w]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        check_interrupt()?;
        let y = self.conv1.forward_deferring_bias(&self.norm1.forward_silu(x));
        let y = self.conv2.forward_deferring_bias(&self.norm2.forward_silu_of_sum(y, None));
        let x =
            self.shortcut.as_ref().map_or_else(|| DeferredBias::from(x), |shortcut| shortcut.forward_deferring_bias(x));
        Ok(x.plus(y))
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
        let y = attention(&q, &k, &v);
        x + self.out.forward(&y.squeeze_dim(1)).transpose(1, 2).reshape_as(x)
    }
}
