//! Layers that the networks share. Each is a struct with `new(weights, …)` and `forward`; weights have the key names of
//! the checkpoint.

mod activation;
mod bias;
mod conv;
mod embedder;
mod gate;
mod linear;
mod norm;
mod products;
mod sinusoids;
mod upsample;

pub use activation::Activation;
pub use bias::DeferredBias;
pub use conv::Conv2d;
pub use embedder::Embedder;

pub use gate::geglu;
pub use linear::{Embedding, Linear};
pub use norm::{GroupNorm, LayerNorm, RmsNorm};
pub use products::{attention, inverse_length, scale, scores, unit};
pub use sinusoids::Sinusoids;
pub use upsample::upsample;

use tch::{Device, Kind};

use crate::checkpoint::Weight;
use crate::kernels::{self, shim};

/// Whether a layer computes with its weight packed for oneDNN: on the CPU in float32, if nothing is differentiated.
/// Packed weights are up to three times as fast, most of all for small feature maps with many channels, where
/// reordering the weight costs as much as the convolution.
fn packs(weight: &Weight) -> bool {
    let layout = weight.device() == Device::Cpu && weight.kind() == Kind::Float;
    layout && kernels::free() && shim::has_onednn()
}
