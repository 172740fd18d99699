use std::sync::OnceLock;

use tch::{Kind, Tensor};

use super::bias::{DeferredBias, can_defer};
use super::packs;
use crate::Result;
use crate::checkpoint::{Scope, Weight};
use crate::kernels::shim;

/// A square 2-d convolution with bias over `[B, C, h, w]`.
pub struct Conv2d {
    weight: Weight,
    packed: OnceLock<Tensor>,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// Reads `weight` `[outputs, inputs, kernel, kernel]` and `bias` `[outputs]`. Stride 1 and padding keep the size.
    ///
    /// # Errors
    /// `Checkpoint` if a weight is missing or has another shape.
    pub fn new(weights: &Scope, inputs: i64, outputs: i64, kernel: i64) -> Result<Self> {
        Ok(Conv2d {
            weight: weights.weight("weight", &[outputs, inputs, kernel, kernel])?,
            packed: OnceLock::new(),
            bias: weights.get("bias", &[outputs])?,
            stride: 1,
            padding: kernel / 2,
        })
    }

    /// The same convolution with another stride and padding.
    pub fn strided(self, stride: i64, padding: i64) -> Self {
        Conv2d { stride, padding, ..self }
    }

    /// `[B, in, h, w]` to `[B, out, h', w']`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        if packs(&self.weight) {
            // The layout depends on the size of the first input, the numbers do not.
            let pack = |weight: &Tensor| shim::pack_conv2d(weight, self.stride, self.padding, &x.size());
            let packed = self.packed.get_or_init(|| self.weight.packed(pack));
            return shim::conv2d(x, packed, &self.bias, self.stride, self.padding);
        }
        self.plain(x).whole()
    }

    /// [`Self::forward`], whose bias may be left to be added later.
    pub fn forward_deferring_bias(&self, x: &Tensor) -> DeferredBias<'_> {
        if packs(&self.weight) { DeferredBias::from(&self.forward(x)) } else { self.plain(x) }
    }

    fn plain(&self, x: &Tensor) -> DeferredBias<'_> {
        let (stride, padding, one) = ([self.stride; 2], [self.padding; 2], [1, 1]);
        let conv = |bias: Option<&Tensor>| {
            let weight = self.weight.plain();
            if x.device().is_cuda() && x.kind() == Kind::Float {
                // In float32, libtorch would by default use TF32, which has fewer digits.
                return x.internal_convolution(
                    weight,
                    bias,
                    stride,
                    padding,
                    one,
                    false,
                    [0, 0],
                    1,
                    false,
                    false,
                    true,
                    false,
                );
            }
            x.conv2d(weight, bias, stride, padding, one, 1)
        };
        if can_defer(x, &self.bias) {
            return DeferredBias { y: conv(None), bias: Some(&self.bias) };
        }
        DeferredBias { y: conv(Some(&self.bias)), bias: None }
    }
}
