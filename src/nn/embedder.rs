use tch::Tensor;

use super::Linear;
use crate::Result;
use crate::checkpoint::Scope;

/// Two linear layers with SiLU between them, by which networks embed times, pooled texts and sizes.
pub struct Embedder {
    linear1: Linear,
    linear2: Linear,
}

impl Embedder {
    /// Reads `linear_1` and `linear_2`, both with a bias.
    ///
    /// # Errors
    /// `Checkpoint` if a weight is missing or has another shape.
    pub fn new(weights: &Scope, inputs: i64, outputs: i64) -> Result<Self> {
        Ok(Embedder {
            linear1: Linear::new(&(weights / "linear_1"), inputs, outputs, true)?,
            linear2: Linear::new(&(weights / "linear_2"), outputs, outputs, true)?,
        })
    }

    /// `[B, inputs]` to `[B, outputs]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.linear2.forward(&self.linear1.forward(x).silu())
    }
}
