use tch::{Kind, Tensor};

use super::bias::DeferredBias;
use super::gate::made;
use crate::Result;
use crate::checkpoint::Scope;
use crate::kernels::cuda::programs::{self, Groups};
use crate::kernels::{self, self_check};

/// Normalisation over groups of channels of `[B, C, …]`; libtorch accumulates in float32 for half types.
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    /// Reads `weight` and `bias`, both `[channels]`.
    ///
    /// # Errors
    /// `Checkpoint` if a weight is missing or has another shape.
    pub fn new(weights: &Scope, groups: i64, channels: i64, eps: f64) -> Result<Self> {
        Ok(GroupNorm {
            weight: weights.get("weight", &[channels])?,
            bias: weights.get("bias", &[channels])?,
            groups,
            eps,
        })
    }

    /// Normalises `x` and keeps its shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.fused(x, None, false).unwrap_or_else(|| self.plain(x))
    }

    /// `SiLU(norm(x))` of `x` `[B, C, h, w]`.
    pub fn forward_silu(&self, x: &Tensor) -> Tensor {
        self.fused(x, None, true).unwrap_or_else(|| self.plain(x).silu())
    }

    /// `SiLU(norm(x + added))` of `x` `[B, C, h, w]` and `added` `[B, C]`.
    pub fn forward_silu_of_sum(&self, x: DeferredBias, added: Option<&Tensor>) -> Tensor {
        // A deferred bias is added together with `added`.
        let both = x.bias.map(|bias| match added {
            Some(added) => added + bias,
            None => bias.expand([x.y.size()[0], -1], false),
        });
        let (x, added) = (x.y, both.as_ref().or(added));
        let sum = || match added {
            Some(added) => &x + added.unsqueeze(-1).unsqueeze(-1),
            None => x.shallow_clone(),
        };
        self.fused(&x, added, true).unwrap_or_else(|| self.plain(&sum()).silu())
    }

    fn plain(&self, x: &Tensor) -> Tensor {
        x.group_norm(self.groups, Some(&self.weight), Some(&self.bias), self.eps, true)
    }

    /// The result of this crate's kernel, if it can be used: on CUDA in half precision, where convolutions use the
    /// channels-last layout and libtorch's own normalisation does not keep it.
    fn fused(&self, x: &Tensor, added: Option<&Tensor>, silu: bool) -> Option<Tensor> {
        if x.dim() != 4 || !kernels::on_cuda_in_half(x) {
            return None;
        }
        let (device, kind) = (x.device(), x.kind());
        let channels = x.size()[1];
        let compare = || {
            let numbers = |shape: &[i64], salt| self_check::numbers(shape, kind, device, salt);
            let (x, added) = (numbers(&[2, channels, 9, 7], 0.2) + 3.0, numbers(&[2, channels], 1.1));
            let ours = made(programs::group_norm(&x, Some(&added), &self.how(), true))?;
            let sum = x.to_kind(Kind::Float) + added.to_kind(Kind::Float).unsqueeze(-1).unsqueeze(-1);
            let [weight, bias] = [&self.weight, &self.bias].map(|x| x.to_kind(Kind::Float));
            Ok(vec![(ours, sum.group_norm(self.groups, Some(&weight), Some(&bias), self.eps, true).silu())])
        };
        if !self_check::passed(("group_norm", device, kind, vec![channels, self.groups]), compare) {
            return None;
        }
        programs::group_norm(x, added, &self.how(), silu).ok()
    }

    fn how(&self) -> Groups<'_> {
        Groups { weight: &self.weight, bias: &self.bias, groups: self.groups, eps: self.eps }
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
    ///
    /// # Errors
    /// `Checkpoint` if a weight is missing or has another shape.
    pub fn new(weights: &Scope, width: i64, eps: f64) -> Result<Self> {
        Ok(LayerNorm { weight: weights.get("weight", &[width])?, bias: weights.get("bias", &[width])?, width, eps })
    }

    /// Normalises `x` and keeps its shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.fused(x, None).map_or_else(|| self.plain(x), |(_, y)| y)
    }

    /// The sum of `x` and `added`, of the same shape, and the normalised sum.
    pub fn forward_of_sum(&self, x: &Tensor, added: &Tensor) -> (Tensor, Tensor) {
        if let Some((Some(sum), y)) = self.fused(x, Some(added)) {
            return (sum, y);
        }
        let sum = x + added;
        let y = self.plain(&sum);
        (sum, y)
    }

    fn plain(&self, x: &Tensor) -> Tensor {
        x.layer_norm([self.width], Some(&self.weight), Some(&self.bias), self.eps, true)
    }

    /// The result of this crate's kernel, if it can be used: on CUDA in half precision, where libtorch's is a third as
    /// fast for such short rows.
    fn fused(&self, x: &Tensor, added: Option<&Tensor>) -> Option<(Option<Tensor>, Tensor)> {
        if !kernels::on_cuda_in_half(x) {
            return None;
        }
        let (device, kind) = (x.device(), x.kind());
        let how = (&self.weight, &self.bias, self.eps);
        let compare = || {
            let numbers = |salt| self_check::numbers(&[7, self.width], kind, device, salt);
            let (x, added) = (numbers(0.2) + 3.0, numbers(1.1));
            let (sum, ours) = made(programs::layer_norm(&x, Some(&added), how))?;
            let [exact, weight, bias] = [&(&x + &added), &self.weight, &self.bias].map(|x| x.to_kind(Kind::Float));
            let plain = exact.layer_norm([self.width], Some(&weight), Some(&bias), self.eps, true);
            Ok(vec![(sum.expect("two were added"), exact), (ours, plain)])
        };
        if programs::packs_rows(self.width, kind)
            && self_check::passed(("layer_norm", device, kind, vec![self.width]), compare)
        {
            return programs::layer_norm(x, added, how).ok();
        }
        None
    }
}

/// Normalisation over the last axis by the root of the mean square (Zhang and Sennrich 2019), `x / √(mean(x²) + ε) · w`.
/// The root is computed in float32, and the result is in the type of the weight.
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Reads `weight` `[width]`.
    ///
    /// # Errors
    /// `Checkpoint` if it is missing or has another shape.
    pub fn new(weights: &Scope, width: i64, eps: f64) -> Result<Self> {
        Ok(RmsNorm { weight: weights.get("weight", &[width])?, eps })
    }

    /// Normalises `x` `[…, width]` and keeps its shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let x = x.to_kind(Kind::Float);
        let inverse = (x.square().mean_dim(-1, true, None) + self.eps).rsqrt();
        (x * inverse).to_kind(self.weight.kind()) * &self.weight
    }
}
