//! Stage 5: a noised latent, a timestep and a text become cross-attention maps and a prediction.
//!
//! Observation is a return value, never a hook: the caller says what it wants, and what it does not want is never
//! formed. Sites nobody asked for run fused attention; nothing is computed after the last thing asked for.

mod attention;
mod sites;
mod taps;
pub mod unet;

use tch::Tensor;

pub use sites::{Site, Stage};
pub use taps::Taps;

use crate::Result;
pub use crate::config::MapKind;

/// What a caller wants to see of one evaluation.
pub struct Wanted<'a> {
    /// By site index, whether the site's map is wanted.
    pub sites: &'a [bool],
    pub map: MapKind,
    /// What to keep of a site's map `[B, H, n, m]`, given the site's index; it runs as soon as the map is formed, so
    /// that a caller who pools never holds all maps at once.
    pub keep: &'a dyn Fn(usize, Tensor) -> Tensor,
    /// Whether the UNet's output is wanted.
    pub prediction: bool,
}

/// What was seen.
pub struct Observation {
    /// Site index and what `keep` made of its map, in forward order.
    pub maps: Vec<(usize, Tensor)>,
    /// `[B, C, h, w]`, if it was wanted.
    pub prediction: Option<Tensor>,
}

/// A denoising network whose cross-attention can be observed.
pub trait Backbone {
    /// The cross-attention sites, in forward order.
    fn sites(&self) -> &[Site];

    /// One evaluation of a batch: noised latents `[B, C, h, w]`, timesteps `[B]` (int64) and text vectors
    /// `[B, m, D]`, all on the backbone's device and, but for the timesteps, in its data type.
    fn observe(&self, noised: &Tensor, timesteps: &Tensor, text: &Tensor, wanted: &Wanted) -> Result<Observation>;

    /// Number of parameters.
    fn parameters(&self) -> usize;
}
