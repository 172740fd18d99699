//! Image-text matching with a text-to-image diffusion model, after «Discffusion: Discriminative Diffusion Models As
//! Few-Shot Vision And Language Learners».
//!
//! The folders are the stages that data flows through; a stage uses only stages before it, plus [`nn`] and the
//! support files ([`config`], [`error`], [`torch`]).
//!
//! | stage | folder | what it does | equation |
//! |---|---|---|---|
//! | 1 | [`checkpoint`] | a diffusers folder → typed configurations and named weights | |
//! | 2 | [`encode`] | image → latent `z = s·E(x)`, text → vectors `τ(y)` | |
//! | 3 | [`noise`] | `z` → `z_t`, the schedule, the shared seeded noise | Eq. 3 |
//! | 4 | [`deltas`] | `W' = W + p`, in files of ours and of others | Eq. 5 |
//! | 5 | [`backbone`] | `z_t`, `τ(y)` → attention maps and prediction | |
//! | 6 | [`pooling`] | map → number | Eq. 4 |
//! | 7 | [`score`] | per head, layer and timestep → score | Eq. 7, Algorithm 2 |
//! | 8 | [`train`] | labelled items → deltas | Eq. 6, Algorithm 1 |
//! | 9 | [`generate`] | text → image, with guidance | |
//!
//! ```no_run,standalone_crate
//! use discffusion::config::ScoreConfig;
//! use discffusion::encode::image::Image;
//! use discffusion::score::{Model, Request};
//!
//! # fn main() -> discffusion::Result<()> {
//! let model = Model::load("path/to/model".as_ref(), None, tch::Device::Cpu, tch::Kind::Float)?;
//! let image = Image::Encoded(std::fs::read("photo.jpg").unwrap(), None);
//! let request = Request { images: &[image], texts: &["a dog on a sofa"], pairs: &[(0, 0)], noise: None };
//! let by_timestep = model.score_pairs(&request, &ScoreConfig::default(), |_| Ok(()))?;
//! println!("{}", by_timestep[0].iter().sum::<f64>() / by_timestep[0].len() as f64);
//! # Ok(())
//! # }
//! ```

pub mod backbone;
#[cfg(feature = "python")]
mod bindings;
pub mod checkpoint;
pub mod config;
pub mod deltas;
pub mod encode;
pub mod error;
pub mod generate;
pub mod nn;
pub mod noise;
pub mod pooling;
pub mod score;
pub mod torch;
pub mod train;

pub use error::{Error, Result};
