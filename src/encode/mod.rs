//! Stage 2: an image becomes a latent `z = s·E(x)` (and back), a text becomes a conditioning `τ(y)`.

pub mod image;
pub mod text;
pub mod tokenizer;
mod vae;

pub use text::{Conditioner, Conditioning};
pub use vae::{VaeConfig, VaeDecoder, VaeEncoder};
