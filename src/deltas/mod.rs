//! Stage 4: Eq. 5, `W' = W + p` for attention projections, dense or low rank, without touching the base.

mod file;
mod fingerprint;
pub mod lora;
mod patch;
mod target;

use std::collections::{BTreeMap, HashMap};

use tch::{Device, Kind, Tensor};

pub use fingerprint::{Base, Fingerprint};
pub use patch::{Change, Changes, Patch};
pub use target::{Architecture, AttentionKind, AttentionLayer, Projection, Target, TargetWeight};

use crate::Result;
use crate::runtime::check_interrupt;

/// The delta of one weight, float32.
pub enum Delta {
    /// `p` `[out, in]`.
    Dense(Tensor),
    /// `p = B A`.
    LowRank {
        /// `A` `[r, in]`.
        down: Tensor,
        /// `B` `[out, r]`.
        up: Tensor,
    },
}

impl Delta {
    /// `p` `[out, in]`.
    pub fn dense(&self) -> Tensor {
        match self {
            Delta::Dense(delta) => delta.shallow_clone(),
            Delta::LowRank { down, up } => up.matmul(down),
        }
    }

    /// The rank of a low-rank delta.
    pub fn rank(&self) -> Option<i64> {
        match self {
            Delta::Dense(_) => None,
            Delta::LowRank { down, .. } => Some(down.size()[0]),
        }
    }

    /// The tensors with the names they have in a file, behind the module path.
    pub fn tensors(&self) -> Vec<(&'static str, &Tensor)> {
        match self {
            Delta::Dense(delta) => vec![("delta", delta)],
            Delta::LowRank { down, up } => vec![("down", down), ("up", up)],
        }
    }

    /// The same delta with every tensor passed through `f`.
    pub fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Delta {
        match self {
            Delta::Dense(delta) => Delta::Dense(f(delta)),
            Delta::LowRank { down, up } => Delta::LowRank { down: f(down), up: f(up) },
        }
    }

    /// How a network with the weight `base` `[out, in]` applies this delta.
    ///
    /// With `merge`, dense deltas are added to the weight, and so are low-rank ones without a graph. Otherwise the
    /// delta is applied by a product of its own. A graph of the delta is kept.
    pub fn change(&self, base: &Tensor, merge: bool) -> Change {
        let (kind, device) = (base.kind(), base.device());
        let here = |tensor: &Tensor| tensor.to_device(device).to_kind(kind);
        match self {
            Delta::LowRank { down, up } if !merge || down.requires_grad() || up.requires_grad() => {
                Change::AddLowRank { down: here(down), up: here(up) }
            }
            _ if merge => Change::Replace((base.to_kind(Kind::Float) + self.dense().to_device(device)).to_kind(kind)),
            Delta::Dense(delta) => Change::Add(here(delta)),
            Delta::LowRank { .. } => unreachable!("low rank without merging is the first arm"),
        }
    }
}

/// Deltas of one model.
pub struct Deltas {
    /// The attention layers of the model.
    pub architecture: Architecture,
    /// The delta of each changed weight.
    pub entries: BTreeMap<Target, Delta>,
    /// For a layer's name, the weight of each head, `[H]` with mean 1; learned in training (appendix J).
    pub head_weights: Option<BTreeMap<String, Vec<f64>>>,
    /// Metadata of a file: base model, options, data. Keys that begin with `discffusion.` are reserved.
    pub metadata: HashMap<String, String>,
    /// The identity of the model that the deltas were made for, if known.
    pub fingerprint: Option<Fingerprint>,
}

impl Deltas {
    /// The rank that all entries share; `None` for dense ones or a mixture.
    pub fn rank(&self) -> Option<i64> {
        let mut ranks = self.entries.values().map(Delta::rank);
        let first = ranks.next()??;
        ranks.all(|rank| rank == Some(first)).then_some(first)
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.entries.values().flat_map(Delta::tensors).map(|(_, tensor)| tensor.numel()).sum()
    }

    /// An independent copy.
    pub fn copy(&self) -> Deltas {
        self.map(|tensor| tensor.detach().copy())
    }

    /// Deltas of other handles of the same tensors.
    pub fn handles(&self) -> Deltas {
        self.map(Tensor::shallow_clone)
    }

    /// The same deltas on a device.
    pub fn to_device(&self, device: Device) -> Deltas {
        self.map(|tensor| tensor.to_device(device))
    }

    fn map(&self, f: impl Fn(&Tensor) -> Tensor) -> Deltas {
        let entries = self.entries.iter().map(|(&target, delta)| (target, delta.map(&f)));
        Deltas {
            architecture: self.architecture.clone(),
            entries: entries.collect(),
            head_weights: self.head_weights.clone(),
            metadata: self.metadata.clone(),
            fingerprint: self.fingerprint.clone(),
        }
    }

    /// The patch of a network; `base` returns its weights, and `merge` is that of [`Delta::change`].
    ///
    /// # Errors
    /// `Interrupted`, if the user asked for it.
    pub fn patch(&self, base: impl Fn(Target) -> Tensor, merge: bool) -> Result<Patch> {
        let mut patch = Patch::default();
        for (&target, delta) in &self.entries {
            check_interrupt()?;
            patch.set(target, delta.change(&base(target), merge));
        }
        Ok(patch)
    }

    /// Named tensors, as a file holds them.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let of = |(&target, delta): (&Target, &Delta)| {
            let path = self.architecture.path(target);
            let named =
                |(name, tensor): (&str, &Tensor)| (format!("{path}.{name}"), tensor.detach().to_device(Device::Cpu));
            delta.tensors().into_iter().map(named).collect::<Vec<_>>()
        };
        self.entries.iter().flat_map(of).collect()
    }
}
