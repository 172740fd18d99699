//! Stage 2: images become latents `z = s (E(x) − c)` (and latents images), texts become a conditioning `τ(y)`.

pub mod image;
pub mod text;
pub mod tokenizer;
mod vae;

pub use text::{Conditioner, Conditioning};
pub use vae::{VaeConfig, VaeDecoder, VaeEncoder};
