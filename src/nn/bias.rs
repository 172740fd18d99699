//! Deferred biases of convolutions on CUDA in half precision. libtorch adds a bias in a pass of its own, which costs a
//! tenth of the convolution; here it is added in the next pass over the same numbers.

use tch::{Kind, Tensor};

use super::gate::made;
use crate::kernels::cuda::programs;
use crate::kernels::{self, self_check};

/// The output of a convolution, to which a bias may still have to be added.
pub struct DeferredBias<'a> {
    /// The output `[B, C, h, w]`.
    pub y: Tensor,
    /// The bias `[C]` that is not added yet, if any.
    pub bias: Option<&'a Tensor>,
}

impl DeferredBias<'_> {
    /// The output with its bias.
    pub fn whole(self) -> Tensor {
        match self.bias {
            None => self.y,
            Some(bias) => sum(None, &self.y, bias),
        }
    }

    /// The sum of two outputs with their biases.
    pub fn plus(self, other: DeferredBias) -> Tensor {
        match (self.bias, other.bias) {
            (None, None) => self.y + other.y,
            (Some(bias), None) | (None, Some(bias)) => sum(Some(&self.y), &other.y, bias),
            (Some(one), Some(two)) => sum(Some(&self.y), &other.y, &(one + two)),
        }
    }
}

impl From<&Tensor> for DeferredBias<'_> {
    fn from(x: &Tensor) -> Self {
        DeferredBias { y: x.shallow_clone(), bias: None }
    }
}

/// Whether a convolution of `x` may defer its bias `[C]`: a kernel that adds it later passes its self-check.
pub fn can_defer(x: &Tensor, bias: &Tensor) -> bool {
    if !kernels::on_cuda_in_half(x) {
        return false;
    }
    let (device, kind) = (x.device(), x.kind());
    let channels = bias.size()[0];
    let compare = || {
        let numbers = |salt| self_check::numbers(&[2, channels, 9, 7], kind, device, salt);
        let (a, b) = (numbers(0.2), numbers(1.1));
        let float = |x: &Tensor| x.to_kind(Kind::Float);
        let ours = made(programs::add(Some(&a), &b, bias))?;
        Ok(vec![(ours, float(&a) + float(&b) + float(bias).view([-1, 1, 1]))])
    };
    self_check::passed(("add", device, kind, vec![channels]), compare)
}

fn sum(a: Option<&Tensor>, b: &Tensor, bias: &Tensor) -> Tensor {
    programs::add(a, b, bias).unwrap_or_else(|_| {
        let b = b + bias.view([-1, 1, 1]);
        match a {
            Some(a) => a + b,
            None => b,
        }
    })
}
