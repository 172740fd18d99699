//! The families of models, a folder each. A family says which parts a checkpoint of its pipelines has and puts them together;
//! nothing after this stage knows which family a model is of.

mod stable_diffusion;
mod stable_diffusion_xl;

use tch::{Device, Kind};

use self::stable_diffusion::{StableDiffusion, UNetConfig};
use self::stable_diffusion_xl::StableDiffusionXl;
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::denoiser::Denoiser;
use crate::encode::{Conditioner, VaeConfig, VaeEncoder};
use crate::noise::{Prediction, Process, SchedulerConfig};

const CLIP: &[&str] = &["CLIPTextModel", "CLIPTextModelWithProjection"];
const CLIP_TOKENIZER: &[&str] = &["CLIPTokenizer", "CLIPTokenizerFast"];
const UNET: &[&str] = &["UNet2DConditionModel"];
const VAE: &[&str] = &["AutoencoderKL"];

/// All families.
const FAMILIES: [&dyn Family; 2] = [&StableDiffusion, &StableDiffusionXl];

/// What is known of a family without any file of a model.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Facts {
    /// The name of its folder.
    pub name: &'static str,
    /// What it is, for messages.
    pub about: &'static str,
    /// The pipelines of diffusers whose checkpoints it reads, by how `_class_name` in `model_index.json` begins.
    pub pipelines: &'static [&'static str],
    /// Those that begin so and are of another family.
    pub other_pipelines: &'static [&'static str],
    /// The folder of the denoising network.
    pub denoiser: &'static str,
    /// The folders of its parts but for the scheduler's, and the classes that each may be of.
    pub parts: &'static [(&'static str, &'static [&'static str])],
    /// Guidance of generation where the caller does not say.
    pub guidance_scale: f64,
}

impl Facts {
    /// Whether pipelines of this class are of the family.
    pub fn matches(&self, class: &str) -> bool {
        let begins = |names: &[&str]| names.iter().any(|name| class.starts_with(name));
        begins(self.pipelines) && !begins(self.other_pipelines)
    }
}

/// How a model is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub device: Device,
    pub kind: Kind,
    /// What the network predicts, where the scheduler's configuration is wrong about it.
    pub prediction: Option<Prediction>,
}

impl Options {
    /// A scheduler's configuration with what the caller says of it.
    pub fn scheduler(&self, config: SchedulerConfig) -> SchedulerConfig {
        SchedulerConfig { prediction: self.prediction.unwrap_or(config.prediction), ..config }
    }
}

/// The parts of a model.
pub struct Parts {
    pub conditioner: Box<dyn Conditioner>,
    pub vae: VaeEncoder,
    pub vae_config: VaeConfig,
    /// The type that the autoencoder computes in.
    pub vae_kind: Kind,
    pub denoiser: Box<dyn Denoiser + Send>,
    pub process: Box<dyn Process>,
    /// Side of the latents that the model was trained on.
    pub sample_size: i64,
}

/// Models that are put together in the same way.
pub trait Family: Sync {
    fn facts(&self) -> &'static Facts;

    /// Reads the parts of a checkpoint.
    ///
    /// # Errors
    /// `Checkpoint`, naming the file and the field, if anything is missing, malformed or of an unsupported kind.
    fn open(&self, checkpoint: &Checkpoint, options: &Options) -> Result<Parts>;
}

/// What is known of all families.
pub fn facts() -> Vec<&'static Facts> {
    FAMILIES.iter().map(|family| family.facts()).collect()
}

/// The family of a checkpoint: by the class of the pipeline that its index names, or, where no family knows that, by the
/// parts that the index lists.
pub fn of_checkpoint(checkpoint: &Checkpoint) -> Result<&'static dyn Family> {
    let class = checkpoint.index().optional::<String>("_class_name")?.unwrap_or_default();
    let by_class = |family: &&&dyn Family| family.facts().matches(&class);
    let by_parts =
        |family: &&&dyn Family| family.facts().parts.iter().all(|(part, _)| checkpoint.class_of(part).is_some());
    let found = FAMILIES
        .iter()
        .find(by_class)
        .or_else(|| FAMILIES.iter().filter(by_parts).max_by_key(|family| family.facts().parts.len()));
    // Old indices list nothing at all.
    Ok(*found.unwrap_or(&FAMILIES[0]))
}

/// Refuses a UNet whose latents are not those of the autoencoder.
fn check_latents(checkpoint: &Checkpoint, unet: &UNetConfig, vae: &VaeConfig) -> Result<()> {
    if unet.out_channels != unet.in_channels {
        return Err(checkpoint.error(&format!(
            "the UNet takes {} channels (in_channels) and gives {} (out_channels); models that predict a variance or \
             anything else beside the noise are not supported",
            unet.in_channels, unet.out_channels
        )));
    }
    if unet.in_channels != vae.latent_channels {
        return Err(checkpoint.error(&format!(
            "the UNet takes {} channels (in_channels), the VAE gives {} (latent_channels); inpainting and depth models \
             are not supported",
            unet.in_channels, vae.latent_channels
        )));
    }
    Ok(())
}
