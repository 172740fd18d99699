//! AutoencoderKL (Rombach et al. 2022, section 3.1), in two halves that are loaded independently: the encoder maps
//! images to latents `z = s (E(x) − c)`, the decoder latents to images.

mod blocks;
mod config;
mod decoder;
mod encoder;

pub use config::VaeConfig;
pub use decoder::VaeDecoder;
pub use encoder::VaeEncoder;
