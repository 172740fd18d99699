//! Stage 5: a noised latent, a timestep and a text become cross-attention maps and a prediction.
//!
//! Observation is a return value, never a hook: the caller says what it wants, and what it does not want is never
//! formed. Sites nobody asked for run fused attention; nothing is computed after the last thing asked for. Maps stay
//! in the autograd graph where there is one.

mod attention;
mod batch;
mod taps;
pub mod unet;

use tch::Tensor;

pub use batch::{Batch, CONSISTENCY_GUIDANCE, Pick, TextCache};
pub use taps::Taps;

use crate::Result;
pub use crate::checkpoint::{Site, Stage};
pub use crate::config::MapKind;
use crate::deltas::{Patch, Target};
use crate::nn::{Digest, Digesting};

/// What a caller wants to see of one evaluation.
pub struct Wanted<'a> {
    /// By site index, whether the site's map is wanted.
    pub sites: &'a [bool],
    pub map: MapKind,
    /// What to keep of a site's map `[B, H, n, m]`, given the site's index; it runs as soon as the map is formed, so
    /// that a caller who pools never holds all maps at once.
    pub keep: &'a dyn Fn(usize, &Tensor) -> Tensor,
    /// Where no more than a digest of the map is used: it then takes the place of `keep`, and the map need not be formed.
    /// The two must agree, since either may be called.
    pub digest: Option<Digested<'a>>,
    /// What becomes of a site's map before it is kept and, where it is the logits or the probabilities, before the
    /// network goes on with it.
    pub alter: Option<&'a dyn Fn(usize, Tensor) -> Tensor>,
    /// Whether the UNet's output is wanted.
    pub prediction: bool,
}

/// What to keep of the digest of a site's map.
#[derive(Clone, Copy)]
pub struct Digested<'a> {
    pub how: Digesting<'a>,
    /// Given the site's index and the digest of its map `[B, H, n, m]`.
    pub keep: &'a dyn Fn(usize, &Digest) -> Tensor,
}

/// What was seen.
pub struct Observation {
    /// Site index and what `keep` made of its map, in forward order.
    pub maps: Vec<(usize, Tensor)>,
    /// `[B, C, h, w]`, if it was wanted.
    pub prediction: Option<Tensor>,
}

/// What flows from block to block.
pub struct Hidden {
    /// `[I, c, h, w]` until the first text comes in, `[B, c, h, w]` from there on.
    pub x: Tensor,
    /// What the way up takes back from the way down, the last on top.
    pub skips: Vec<Tensor>,
}

impl Clone for Hidden {
    /// Shares the numbers.
    fn clone(&self) -> Self {
        Hidden { x: self.x.shallow_clone(), skips: self.skips.iter().map(Tensor::shallow_clone).collect() }
    }
}

/// The hidden states before each block of one evaluation, from which it can be repeated block by block.
pub struct Boundaries(Vec<Hidden>);

/// A denoising network whose cross-attention can be observed.
pub trait Backbone {
    /// The cross-attention sites, in forward order.
    fn sites(&self) -> &[Site];

    /// The weight `[out, in]` that a delta would be added to.
    fn weight(&self, target: Target) -> &Tensor;

    /// One evaluation of a batch; latents and text are on the backbone's device and in its data type.
    fn observe(&self, batch: &Batch, patch: Option<&Patch>, wanted: &Wanted) -> Result<Observation>;

    /// The same without a graph, keeping what [`Self::backward`] needs: one hidden state a block.
    fn observe_keeping(
        &self,
        batch: &Batch,
        patch: Option<&Patch>,
        wanted: &Wanted,
    ) -> Result<(Observation, Boundaries)>;

    /// Backpropagates `gradient` of what was seen, repeating one block at a time with a graph: less memory for one
    /// more forward pass. Gradients are added to those of the patch's leaves.
    fn backward(
        &self,
        boundaries: Boundaries,
        batch: &Batch,
        patch: Option<&Patch>,
        wanted: &Wanted,
        gradient: &Observation,
    ) -> Result<()>;

    /// Number of parameters.
    fn parameters(&self) -> usize;
}
