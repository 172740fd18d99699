//! Stage 2: an image becomes a latent `z = s·E(x)` (and back), a text becomes the vectors `τ(y)`.

pub mod image;
mod text;
pub mod tokenizer;
mod vae;

pub use text::TextEncoder;
pub use vae::{VaeDecoder, VaeEncoder};
