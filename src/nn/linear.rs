use tch::Tensor;

use crate::Result;
use crate::checkpoint::Scope;

/// `y = x Wᵀ + b`, with `W` of shape `[out, in]`.
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` `[outputs, inputs]` and, if asked for, `bias` `[outputs]`.
    pub fn new(weights: &Scope, inputs: i64, outputs: i64, bias: bool) -> Result<Self> {
        Ok(Linear {
            weight: weights.get("weight", &[outputs, inputs])?,
            bias: if bias { Some(weights.get("bias", &[outputs])?) } else { None },
        })
    }

    /// `[…, in]` to `[…, out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.forward_with(x, &self.weight)
    }

    /// The same with another weight of the same shape, and this layer's bias.
    pub fn forward_with(&self, x: &Tensor, weight: &Tensor) -> Tensor {
        x.linear(weight, self.bias.as_ref())
    }

    /// `W` `[out, in]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
}

/// A table of vectors `[n, width]`, looked up by index.
pub struct Embedding {
    weight: Tensor,
}

impl Embedding {
    /// Reads `weight` `[entries, width]`.
    pub fn new(weights: &Scope, entries: i64, width: i64) -> Result<Self> {
        Ok(Embedding { weight: weights.get("weight", &[entries, width])? })
    }

    /// int64 indices `[…]` to vectors `[…, width]`.
    pub fn forward(&self, indices: &Tensor) -> Tensor {
        Tensor::embedding(&self.weight, indices, -1, false, false)
    }
}
