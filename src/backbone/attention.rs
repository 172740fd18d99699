//! Multi-head attention: fused where nobody looks, explicit where a map is wanted.

use tch::{Kind, Tensor};

use super::{MapKind, Taps};
use crate::Result;
use crate::checkpoint::Scope;
use crate::nn::Linear;

/// `to_q`, `to_k`, `to_v` without bias and `to_out` with, the attention of Stable Diffusion's transformers.
pub struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: i64,
    upcast: bool,
}

impl Attention {
    /// `width` is the image side's, `context` the width of what is attended to.
    pub fn new(weights: &Scope, width: i64, context: i64, heads: i64, upcast: bool) -> Result<Self> {
        Ok(Attention {
            q: Linear::new(&(weights / "to_q"), width, width, false)?,
            k: Linear::new(&(weights / "to_k"), context, width, false)?,
            v: Linear::new(&(weights / "to_v"), context, width, false)?,
            out: Linear::new(&(weights / "to_out.0"), width, width, true)?,
            heads,
            upcast,
        })
    }

    /// Attention of `x` `[B, n, c]` to `context` `[B, m, D]` (to itself: pass `x` twice), output `[B, n, c]`.
    pub fn forward(&self, x: &Tensor, context: &Tensor) -> Tensor {
        let (q, k, v) = (self.split(&self.q, x), self.split(&self.k, context), self.split(&self.v, context));
        if self.upcast && x.kind() != Kind::Float {
            return self.merge(&(scores(&q, &k).softmax(-1, None).to_kind(v.kind()).matmul(&v)));
        }
        self.merge(&Tensor::scaled_dot_product_attention::<Tensor>(&q, &k, &v, None, 0.0, false, None, false))
    }

    /// The same, giving `taps` the map of `site` if it is wanted; `None` if nothing after the map is.
    pub fn observe(&self, x: &Tensor, context: &Tensor, site: usize, taps: &mut Taps) -> Option<Tensor> {
        let Some(map) = taps.wants(site) else {
            return Some(self.forward(x, context));
        };
        let (q, k) = (self.split(&self.q, x), self.split(&self.k, context));
        let logits = scores(&q, &k);
        let probs = logits.softmax(-1, None);
        taps.take(
            site,
            match map {
                MapKind::Logits => logits,
                MapKind::Probs => probs.shallow_clone(),
                MapKind::Cosine => cosine(&q, &k),
            },
        );
        if taps.done() {
            return None;
        }
        let v = self.split(&self.v, context);
        Some(self.merge(&probs.to_kind(v.kind()).matmul(&v)))
    }

    /// `[B, n, c]` to `[B, H, n, d]`.
    fn split(&self, linear: &Linear, x: &Tensor) -> Tensor {
        let (batch, tokens, _) = x.size3().expect("attention inputs are [B, n, c]");
        linear.forward(x).view([batch, tokens, self.heads, -1]).transpose(1, 2)
    }

    /// `[B, H, n, d]` to `[B, n, c]`.
    fn merge(&self, x: &Tensor) -> Tensor {
        self.out.forward(&x.transpose(1, 2).flatten(2, 3))
    }
}

/// `S = QKᵀ/√d` `[B, H, n, m]` in float32.
fn scores(q: &Tensor, k: &Tensor) -> Tensor {
    let d = q.size()[3] as f64;
    (q.to_kind(Kind::Float) * d.powf(-0.5)).matmul(&k.to_kind(Kind::Float).transpose(-1, -2))
}

/// The cosine of every query with every key, `[B, H, n, m]` in float32; 0 where a vector is null.
fn cosine(q: &Tensor, k: &Tensor) -> Tensor {
    let unit = |x: &Tensor| {
        let x = x.to_kind(Kind::Float);
        &x / x.square().sum_dim_intlist(-1, true, None).sqrt().clamp_min(1e-12)
    };
    unit(q).matmul(&unit(k).transpose(-1, -2))
}
