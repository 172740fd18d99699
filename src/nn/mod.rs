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
