use std::sync::OnceLock;

use tch::Tensor;

use super::packs;
use crate::Result;
use crate::checkpoint::{Scope, Weight};
use crate::kernels::shim;

/// `y = x Wᵀ + b`, with `W` of shape `[out, in]`.
pub struct Linear {
    weight: Weight,
    packed: OnceLock<Tensor>,
    bias: Option<Tensor>,
}

/// The number of rows that weights are packed for. It is fixed, because the layout determines the order of additions
/// and so the last bit, which must not depend on the first input. This number is the fastest for 77 rows and for 4,096.
const ROWS: i64 = 256;

/// For smaller weights the plain layout is as fast.
const WORTH_PACKING: usize = 1 << 16;

impl Linear {
    /// Reads `weight` `[outputs, inputs]` and, if wanted, `bias` `[outputs]`.
    ///
    /// # Errors
    /// `Checkpoint` if a weight is missing or has another shape.
    pub fn new(weights: &Scope, inputs: i64, outputs: i64, bias: bool) -> Result<Self> {
        Ok(Linear {
            weight: weights.weight("weight", &[outputs, inputs])?,
            packed: OnceLock::new(),
            bias: if bias { Some(weights.get("bias", &[outputs])?) } else { None },
        })
    }

    /// `[…, in]` to `[…, out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        if packs(&self.weight) && self.weight.numel() >= WORTH_PACKING {
            let packed = self.packed.get_or_init(|| self.weight.packed(|weight| shim::pack_linear(weight, ROWS)));
            return shim::linear(x, packed, self.bias.as_ref());
        }
        self.forward_with(x, self.weight.plain())
    }

    /// [`Self::forward`] with another weight of the same shape and this layer's bias.
    pub fn forward_with(&self, x: &Tensor, weight: &Tensor) -> Tensor {
        x.linear(weight, self.bias.as_ref())
    }

    /// `W` `[out, in]`.
    pub fn weight(&self) -> &Tensor {
        self.weight.plain()
    }
}

/// A table of vectors `[n, width]`, looked up by index.
pub struct Embedding {
    weight: Tensor,
}

impl Embedding {
    /// Reads `weight` `[entries, width]`.
    ///
    /// # Errors
    /// `Checkpoint` if it is missing or has another shape.
    pub fn new(weights: &Scope, entries: i64, width: i64) -> Result<Self> {
        Ok(Embedding { weight: weights.get("weight", &[entries, width])? })
    }

    /// int64 indices `[…]` to vectors `[…, width]`.
    pub fn forward(&self, indices: &Tensor) -> Tensor {
        Tensor::embedding(&self.weight, indices, -1, false, false)
    }
}
