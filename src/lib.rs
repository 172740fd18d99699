//! Image-text matching with a text-to-image diffusion model, after «Discffusion: Discriminative Diffusion Models As
//! Few-Shot Vision And Language Learners».
//!
//! The modules are in one order; a module uses only modules before it.
//!
//! | module | purpose | equation |
//! |---|---|---|
//! | [`error`], [`config`] | errors; options | |
//! | [`runtime`], [`kernels`], [`device`] | interruption, threads; kernels beside libtorch's; devices and data types | |
//! | [`checkpoint`] | a diffusers folder → configurations and named weights | |
//! | [`nn`] | layers that networks share | |
//! | [`encode`] | image → latent `z = s (E(x) − c)`, text → conditioning `τ(y)` | |
//! | [`noise`] | `z` → `z_t`, the process, the shared seeded noise, samplers | Eq. 3 |
//! | [`pooling`] | attention map → number | Eq. 4 |
//! | [`deltas`] | `W' = W + p`, in the native file format and as LoRA | Eq. 5 |
//! | [`denoiser`] | `z_t`, `τ(y)` → attention maps and prediction, independent of the network | |
//! | [`families`] | the parts of a model: Stable Diffusion 1, 2 and XL | |
//! | [`model`] | a loaded model | |
//! | [`score`] | per head, layer and time → score | Eq. 7, Algorithm 2 |
//! | [`train`] | labelled items → deltas | Eq. 6, Algorithm 1 |
//! | [`generate`] | text → image, with guidance | |
//!
//! ```no_run,standalone_crate
//! use discffusion::config::ScoreConfig;
//! use discffusion::encode::image::Image;
//! use discffusion::model::Model;
//! use discffusion::score::Request;
//!
//! # fn main() -> discffusion::Result<()> {
//! let model = Model::load("path/to/model".as_ref(), None, tch::Device::Cpu, tch::Kind::Float)?;
//! let image = Image::Encoded(std::fs::read("photo.jpg").unwrap(), None);
//! let request = Request { images: &[image], texts: &["a dog on a sofa"], pairs: &[(0, 0)], noise: None };
//! println!("{}", model.score(&request, &ScoreConfig::default())?[0]);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "python")]
mod bindings;
pub mod checkpoint;
pub mod config;
pub mod deltas;
pub mod denoiser;
pub mod device;
pub mod encode;
pub mod error;
pub mod families;
pub mod generate;
pub mod kernels;
pub mod model;
pub mod nn;
pub mod noise;
pub mod pooling;
pub mod runtime;
pub mod score;
pub mod train;

pub use error::{Error, Result};
