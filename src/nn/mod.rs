//! Layers that the networks share. Each is a struct, `new(weights, …)` and `forward`; weights come in by the
//! checkpoint's own key names, in checkpoint order.

mod activation;
mod conv;
mod linear;
mod norm;

pub use activation::Activation;
pub use conv::Conv2d;
pub use linear::{Embedding, Linear};
pub use norm::{GroupNorm, LayerNorm};

use std::cell::Cell;

use tch::{Device, Kind};

use crate::checkpoint::Weight;
use crate::torch::shim;

thread_local! {
    static TO_REPEAT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with the kernels that a gradient is computed with, so that a repetition of it with a graph gives the very
/// same numbers.
pub fn to_repeat<T>(work: impl FnOnce() -> T) -> T {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            TO_REPEAT.set(self.0);
        }
    }
    let _back = Back(TO_REPEAT.replace(true));
    work()
}

/// Whether a layer computes with its weight packed for oneDNN: on the CPU in float32, where nothing is to be
/// differentiated. Its kernels are up to three times as fast as with the plain layout, most of all for small maps
/// of many channels, where reordering the weight costs as much as the convolution.
fn packs(weight: &Weight) -> bool {
    let layout = weight.device() == Device::Cpu && weight.kind() == Kind::Float;
    layout && !TO_REPEAT.get() && !shim::records() && shim::has_onednn()
}
