//! The projections of the tokens of one modality to queries, keys and values, and of the attention's output.

use tch::Tensor;

use super::TransformerConfig;
use crate::Result;
use crate::checkpoint::Scope;
use crate::deltas::{AttentionKind, Changes, Projection};
use crate::denoiser::project;
use crate::nn::{Linear, RmsNorm};

/// `ε` of the norms of queries and keys.
const EPS: f64 = 1e-6;

/// The projections of image tokens or of text tokens in an attention; all have a bias.
pub struct Projections {
    q: Linear,
    k: Linear,
    v: Linear,
    norm_q: Option<RmsNorm>,
    norm_k: Option<RmsNorm>,
    /// Absent where the output is not used.
    out: Option<Linear>,
    heads: i64,
}

impl Projections {
    /// Reads the projections of a modality: [`AttentionKind::Itself`] are those of image tokens,
    /// [`AttentionKind::Cross`] those of text tokens.
    ///
    /// # Errors
    /// `Checkpoint` if a weight is missing or has another shape.
    pub fn new(weights: &Scope, of: AttentionKind, config: &TransformerConfig, output: bool) -> Result<Self> {
        let width = config.width();
        let linear = |projection| Linear::new(&(weights / key(of, projection)), width, width, true);
        let norm = |name: &str| RmsNorm::new(&(weights / name), config.head_dim, EPS);
        let [norm_q, norm_k] = match of {
            AttentionKind::Itself => ["norm_q", "norm_k"],
            AttentionKind::Cross => ["norm_added_q", "norm_added_k"],
        };
        Ok(Projections {
            q: linear(Projection::Query)?,
            k: linear(Projection::Key)?,
            v: linear(Projection::Value)?,
            norm_q: if config.qk_norm { Some(norm(norm_q)?) } else { None },
            norm_k: if config.qk_norm { Some(norm(norm_k)?) } else { None },
            out: if output { Some(linear(Projection::Out)?) } else { None },
            heads: config.heads,
        })
    }

    /// Queries, keys or values of `x` `[B, tokens, c]`, split into heads: `[B, tokens, H, d]`.
    pub fn heads(&self, projection: Projection, x: &Tensor, changes: Option<&Changes>) -> Tensor {
        let linear = self.linear(projection).expect("queries, keys and values are always there");
        let (batch, tokens, _) = x.size3().expect("tokens are [B, tokens, c]");
        let split = project(linear, x, projection.change(changes)).view([batch, tokens, self.heads, -1]);
        let norm = match projection {
            Projection::Query => self.norm_q.as_ref(),
            Projection::Key => self.norm_k.as_ref(),
            Projection::Value | Projection::Out => None,
        };
        norm.map_or_else(|| split.shallow_clone(), |norm| norm.forward(&split))
    }

    /// The projection of an attention's output `[B, tokens, c]`.
    ///
    /// # Panics
    /// If the output is not used.
    pub fn output(&self, x: &Tensor, changes: Option<&Changes>) -> Tensor {
        project(self.out.as_ref().expect("it is used"), x, Projection::Out.change(changes))
    }

    /// A projection, if it is there.
    pub fn linear(&self, projection: Projection) -> Option<&Linear> {
        match projection {
            Projection::Query => Some(&self.q),
            Projection::Key => Some(&self.k),
            Projection::Value => Some(&self.v),
            Projection::Out => self.out.as_ref(),
        }
    }
}

/// The checkpoint's name of a projection.
pub fn key(of: AttentionKind, projection: Projection) -> &'static str {
    match (of, projection) {
        (AttentionKind::Itself, Projection::Query) => "to_q",
        (AttentionKind::Itself, Projection::Key) => "to_k",
        (AttentionKind::Itself, Projection::Value) => "to_v",
        (AttentionKind::Itself, Projection::Out) => "to_out.0",
        (AttentionKind::Cross, Projection::Query) => "add_q_proj",
        (AttentionKind::Cross, Projection::Key) => "add_k_proj",
        (AttentionKind::Cross, Projection::Value) => "add_v_proj",
        (AttentionKind::Cross, Projection::Out) => "to_add_out",
    }
}
