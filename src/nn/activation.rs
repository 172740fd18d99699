use tch::Tensor;

use crate::{Error, Result};

/// The activations of CLIP text encoders, by the names of `hidden_act`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x Φ(x)`, exact.
    Gelu,
    /// `x σ(1.702 x)`, the first CLIP models' approximation.
    QuickGelu,
}

impl Activation {
    /// Reads `gelu` or `quick_gelu`.
    ///
    /// # Errors
    /// `Checkpoint` if the name is another one.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "gelu" => Ok(Activation::Gelu),
            "quick_gelu" => Ok(Activation::QuickGelu),
            _ => Err(Error::Checkpoint(format!(
                "text_encoder/config.json: hidden_act {name:?} is not supported; expected \"gelu\" or \"quick_gelu\""
            ))),
        }
    }

    /// Applies the activation to every element.
    pub fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Activation::Gelu => x.gelu("none"),
            Activation::QuickGelu => x * (x * 1.702).sigmoid(),
        }
    }
}
