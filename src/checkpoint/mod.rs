//! Stage 1: a diffusers folder becomes typed configurations and named weights.
//!
//! The layout is the published one: `model_index.json` and the folders `unet`, `vae`, `text_encoder`, `tokenizer`,
//! `scheduler`, each with its configuration and, for the networks, safetensors. Nothing is downloaded here and no
//! pickle is read.

mod json;
mod scheduler;
mod sites;
mod tensors;
mod text;
mod unet;
mod vae;
mod weight;
mod weights;

use std::path::{Path, PathBuf};

pub use scheduler::{BetaSchedule, Clip, Prediction, SamplerKind, SamplingConfig, SchedulerConfig, Spacing};
pub use sites::{Site, Stage};
pub use tensors::{TensorFile, write_atomically};
pub use text::TextConfig;
pub use unet::{BlockKind, UNetConfig};
pub use vae::VaeConfig;
pub use weight::Weight;
pub use weights::{Scope, Weights};

use crate::{Error, Result};

/// A model folder, its configurations read and checked; weights are opened part by part.
pub struct Checkpoint {
    dir: PathBuf,
    variant: Option<String>,
    pub unet: UNetConfig,
    pub vae: VaeConfig,
    pub text: TextConfig,
    pub scheduler: SchedulerConfig,
}

impl Checkpoint {
    /// Reads every configuration in `dir`. `variant` is the middle of a weight file's name, as in
    /// `diffusion_pytorch_model.fp16.safetensors`.
    ///
    /// # Errors
    /// `Checkpoint`, naming the file and the field, if anything is missing, malformed or of an unsupported kind.
    pub fn open(dir: &Path, variant: Option<&str>) -> Result<Self> {
        if !dir.is_dir() {
            return Err(Error::Checkpoint(format!(
                "{} is not a folder; expected a model in the diffusers layout (model_index.json, unet/, vae/, …)",
                dir.display()
            )));
        }
        json::read(&dir.join("model_index.json"))?;
        let config = |part: &str, file: &str| json::read(&dir.join(part).join(file));
        let checkpoint = Checkpoint {
            dir: dir.to_owned(),
            variant: variant.map(str::to_owned),
            unet: UNetConfig::read(&config("unet", "config.json")?)?,
            vae: VaeConfig::read(&config("vae", "config.json")?)?,
            text: TextConfig::read(&config("text_encoder", "config.json")?)?,
            scheduler: SchedulerConfig::read(&config("scheduler", "scheduler_config.json")?)?,
        };
        checkpoint.check_parts_fit()?;
        Ok(checkpoint)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens the weights of `part` (`unet`, `vae` or `text_encoder`); none is read before it is asked for.
    pub fn weights(&self, part: &str, device: tch::Device, kind: tch::Kind) -> Result<Weights> {
        let stem = if part == "text_encoder" { "model" } else { "diffusion_pytorch_model" };
        Weights::open(&self.dir.join(part), stem, self.variant.as_deref(), device, kind)
    }

    fn check_parts_fit(&self) -> Result<()> {
        if self.unet.cross_attention_dim != self.text.hidden_size {
            return Err(Error::Checkpoint(format!(
                "{}: the UNet expects text vectors of width {} (cross_attention_dim), the text encoder gives {} (hidden_size)",
                self.dir.display(),
                self.unet.cross_attention_dim,
                self.text.hidden_size
            )));
        }
        if self.unet.in_channels != self.vae.latent_channels {
            return Err(Error::Checkpoint(format!(
                "{}: the UNet takes {} channels (in_channels), the VAE gives {} (latent_channels); inpainting and \
                 depth models are not supported",
                self.dir.display(),
                self.unet.in_channels,
                self.vae.latent_channels
            )));
        }
        Ok(())
    }
}
