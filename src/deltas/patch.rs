//! Deltas as the network applies them.

use tch::Tensor;

use super::target::{AttentionKind, Projection, Target};

/// How one projection differs from the checkpoint's; tensors are on the model's device and in its data type.
pub enum Change {
    /// `y = x W'ᵀ` with this `W' = W + p` `[out, in]`.
    Replace(Tensor),
    /// `y = x Wᵀ + x pᵀ` with this `p` `[out, in]`, for types in which `W + p` would lose a small `p` to rounding.
    Add(Tensor),
    /// `y = x Wᵀ + (x Aᵀ) Bᵀ`.
    AddLowRank {
        /// `A` `[r, in]`.
        down: Tensor,
        /// `B` `[out, r]`.
        up: Tensor,
    },
}

impl Change {
    fn requires_grad(&self) -> bool {
        match self {
            Change::Replace(tensor) | Change::Add(tensor) => tensor.requires_grad(),
            Change::AddLowRank { down, up } => down.requires_grad() || up.requires_grad(),
        }
    }
}

/// The changes of one attention, in the order of [`Projection::ALL`].
pub type Changes = [Option<Change>; 4];

/// The changes of a whole network.
#[derive(Default)]
pub struct Patch {
    layers: Vec<[Changes; 2]>,
}

impl Patch {
    /// Sets the change of one target.
    pub fn set(&mut self, target: Target, change: Change) {
        while self.layers.len() <= target.layer {
            self.layers.push(Default::default());
        }
        self.layers[target.layer][target.attention as usize][target.projection as usize] = Some(change);
    }

    /// The index of the first layer with a trained delta.
    pub fn first_trained(&self) -> Option<usize> {
        let trained = |change: &Option<Change>| change.as_ref().is_some_and(Change::requires_grad);
        self.layers.iter().position(|attentions| attentions.iter().flatten().any(trained))
    }

    /// The changes of one attention.
    pub fn of(&self, layer: usize, attention: AttentionKind) -> Option<&Changes> {
        self.layers.get(layer).map(|changes| &changes[attention as usize])
    }
}

impl Projection {
    /// The change of this projection among those of its attention.
    pub fn change(self, changes: Option<&Changes>) -> Option<&Change> {
        changes.and_then(|changes| changes[self as usize].as_ref())
    }
}
