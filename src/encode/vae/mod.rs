//! AutoencoderKL (Rombach et al. 2022, section 3.1), in two halves that are read apart: an image becomes the latent
//! `z = s·E(x)`, and a latent an image again.

mod blocks;
mod config;
mod decoder;
mod encoder;

pub use config::VaeConfig;
pub use decoder::VaeDecoder;
pub use encoder::VaeEncoder;
