use tch::Tensor;

use crate::Result;
use crate::checkpoint::Scope;

/// Normalisation over groups of channels of `[B, C, …]`; libtorch accumulates in float32 for half types.
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    /// Reads `weight` and `bias`, both `[channels]`.
    pub fn new(weights: &Scope, groups: i64, channels: i64, eps: f64) -> Result<Self> {
        Ok(GroupNorm {
            weight: weights.get("weight", &[channels])?,
            bias: weights.get("bias", &[channels])?,
            groups,
            eps,
        })
    }

    /// Keeps the shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.group_norm(self.groups, Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

/// Normalisation over the last axis; libtorch accumulates in float32 for half types.
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    width: i64,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias`, both `[width]`.
    pub fn new(weights: &Scope, width: i64, eps: f64) -> Result<Self> {
        Ok(LayerNorm { weight: weights.get("weight", &[width])?, bias: weights.get("bias", &[width])?, width, eps })
    }

    /// Keeps the shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm([self.width], Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}
