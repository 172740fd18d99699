//! Multi-head attention: fused, or with explicit maps where they are wanted.

use std::sync::OnceLock;

use tch::Tensor;

use super::{Batch, MapKind, Recorder};
use crate::Result;
use crate::checkpoint::Scope;
use crate::deltas::{Change, Changes, Projection};
use crate::kernels;
use crate::nn::{self, Linear, attention, scale, unit};
use crate::pooling::{Qkv, attend};

/// The attention of Stable Diffusion's transformers: `to_q`, `to_k` and `to_v` without bias, `to_out` with bias.
pub struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: i64,
    /// The weights of q, k and v, concatenated `[3 c, c]`; made at first use.
    joined: OnceLock<Tensor>,
}

impl Attention {
    /// Reads the weights. `width` is the width of the queries' inputs, `context` that of the inputs of keys and values.
    ///
    /// # Errors
    /// `Checkpoint` if a weight is missing or has another shape.
    pub fn new(weights: &Scope, width: i64, context: i64, heads: i64) -> Result<Self> {
        Ok(Attention {
            q: Linear::new(&(weights / "to_q"), width, width, false)?,
            k: Linear::new(&(weights / "to_k"), context, width, false)?,
            v: Linear::new(&(weights / "to_v"), context, width, false)?,
            out: Linear::new(&(weights / "to_out.0"), width, width, true)?,
            heads,
            joined: OnceLock::new(),
        })
    }

    /// The weight `W` `[out, in]` of a projection.
    pub fn weight(&self, projection: Projection) -> &Tensor {
        self.linear(projection).weight()
    }

    /// Self-attention of `x` `[B, n, c]`, output `[B, n, c]`.
    pub fn self_attention(&self, x: &Tensor, changes: Option<&Changes>) -> Tensor {
        let each = [Projection::Query, Projection::Key, Projection::Value];
        let [q, k, v] = if changes.is_none() && kernels::on_cuda_in_half(x) {
            // One product reads x once; with few channels a GPU is limited by memory bandwidth.
            let weights = || Tensor::cat(&each.map(|projection| self.weight(projection)), 0);
            let all = x.linear::<Tensor>(self.joined.get_or_init(weights), None);
            let width = all.size()[2] / 3;
            [0, 1, 2].map(|i| self.split(&all.narrow(2, i * width, width)))
        } else {
            each.map(|projection| self.split(&self.project(projection, x, changes)))
        };
        self.fused(&q, &k, &v, changes)
    }

    /// Cross-attention of `x` `[I, n, c]` or `[B, n, c]` to the batch's texts, output `[B, n, c]`. It gives `recorder`
    /// the map of `layer` if that is wanted, and returns `None` if nothing else is.
    pub fn cross_attention(
        &self,
        x: &Tensor,
        batch: &Batch,
        changes: Option<&Changes>,
        layer: usize,
        recorder: &mut Recorder,
    ) -> Option<Tensor> {
        let of_text = |projection| {
            let by_text = batch.of_texts((layer, projection), |texts| self.project(projection, texts, changes));
            self.split(&by_text)
        };
        let q = self.split(&batch.by_row(&self.project(Projection::Query, x, changes)));
        let k = of_text(Projection::Key);
        let Some(map) = recorder.wants(layer) else {
            return Some(self.fused(&q, &k, &of_text(Projection::Value), changes));
        };
        if let Some(how) = recorder.pools() {
            let v = (!recorder.ends_here()).then(|| of_text(Projection::Value));
            let attend = |v| attend(Qkv { q: &q, k: &k, v }, scale(&q), map, &how);
            // Not every kernel can compute an output from scores and a map of cosines in one pass.
            let without_output = || if map == MapKind::Cosine { attend(None) } else { None };
            if let Some((pooled, output)) = attend(v.as_ref()).or_else(without_output) {
                recorder.record_pooled(layer, &pooled);
                return match output {
                    Some(output) => Some(self.merge(&output, changes)),
                    None if recorder.done() => None,
                    None => Some(self.fused(&q, &k, &of_text(Projection::Value), changes)),
                };
            }
        }
        let probs = match map {
            MapKind::Logits => {
                let logits = recorder.record(layer, scores(&q, &k));
                (!recorder.done()).then(|| logits.softmax(-1, None))
            }
            MapKind::Probs | MapKind::TextProbs => Some(recorder.record(layer, scores(&q, &k).softmax(-1, None))),
            MapKind::Cosine => {
                // The network continues with probabilities; cosines are recorded only.
                let _ = recorder.record(layer, unit(&q).matmul(&unit(&k).transpose(-1, -2)));
                (!recorder.done()).then(|| scores(&q, &k).softmax(-1, None))
            }
        };
        let probs = probs.filter(|_| !recorder.done())?;
        let v = of_text(Projection::Value);
        Some(self.merge(&probs.to_kind(v.kind()).matmul(&v), changes))
    }

    /// All kernels of this libtorch operator compute scores in float32, so that `upcast_attention` of a configuration
    /// requires nothing else.
    fn fused(&self, q: &Tensor, k: &Tensor, v: &Tensor, changes: Option<&Changes>) -> Tensor {
        self.merge(&attention(q, k, v), changes)
    }

    fn linear(&self, projection: Projection) -> &Linear {
        match projection {
            Projection::Query => &self.q,
            Projection::Key => &self.k,
            Projection::Value => &self.v,
            Projection::Out => &self.out,
        }
    }

    fn project(&self, projection: Projection, x: &Tensor, changes: Option<&Changes>) -> Tensor {
        project(self.linear(projection), x, projection.change(changes))
    }

    /// `[B, n, c]` to `[B, H, n, d]`.
    fn split(&self, x: &Tensor) -> Tensor {
        let (batch, tokens, _) = x.size3().expect("attention inputs are [B, n, c]");
        x.view([batch, tokens, self.heads, -1]).transpose(1, 2)
    }

    /// `[B, H, n, d]` to `[B, n, c]`.
    fn merge(&self, x: &Tensor, changes: Option<&Changes>) -> Tensor {
        self.project(Projection::Out, &x.transpose(1, 2).flatten(2, 3), changes)
    }
}

/// A projection of `x` `[…, in]`, with its change by Eq. 5.
pub fn project(linear: &Linear, x: &Tensor, change: Option<&Change>) -> Tensor {
    match change {
        None => linear.forward(x),
        Some(Change::Replace(weight)) => linear.forward_with(x, weight),
        Some(Change::Add(delta)) => linear.forward(x) + x.linear::<Tensor>(delta, None),
        Some(Change::AddLowRank { down, up }) => {
            linear.forward(x) + x.linear::<Tensor>(down, None).linear::<Tensor>(up, None)
        }
    }
}

/// `S = QKᵀ/√d` `[B, H, n, m]` in float32.
fn scores(q: &Tensor, k: &Tensor) -> Tensor {
    nn::scores(q, k, scale(q))
}
