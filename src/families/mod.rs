//! The families of models, one folder each. A family knows which parts the checkpoints of its pipelines have, and
//! assembles them. Later stages are independent of the family.

mod clip;
mod stable_diffusion;
mod stable_diffusion_3;
mod stable_diffusion_xl;

use tch::{Device, Kind};

use self::stable_diffusion::StableDiffusion;
use self::stable_diffusion_3::StableDiffusion3;
use self::stable_diffusion_xl::StableDiffusionXl;
use crate::Result;
use crate::checkpoint::{Checkpoint, Json};
use crate::denoiser::Denoiser;
use crate::encode::{Conditioner, VaeConfig, VaeEncoder};
use crate::noise::{self, PipelineSettings, Prediction, Process};

const CLIP: &[&str] = &["CLIPTextModel", "CLIPTextModelWithProjection"];
const CLIP_TOKENIZER: &[&str] = &["CLIPTokenizer", "CLIPTokenizerFast"];
const UNET: &[&str] = &["UNet2DConditionModel"];
const VAE: &[&str] = &["AutoencoderKL"];

/// All families.
const FAMILIES: [&dyn Family; 3] = [&StableDiffusion, &StableDiffusionXl, &StableDiffusion3];

/// The facts about a family that do not depend on a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Facts {
    /// The name of its folder.
    pub name: &'static str,
    /// A description, for messages.
    pub about: &'static str,
    /// The diffusers pipelines whose checkpoints it reads, as prefixes of `_class_name` in `model_index.json`.
    pub pipelines: &'static [&'static str],
    /// Prefixes of pipelines that match `pipelines` but belong to another family.
    pub other_pipelines: &'static [&'static str],
    /// The folder of the denoising network.
    pub denoiser: &'static str,
    /// The folders of the parts, except the scheduler's, and the classes that each may have.
    pub parts: &'static [(&'static str, &'static [&'static str])],
    /// The parts that a checkpoint may lack: its index leaves them out, or has nulls for them.
    pub optional_parts: &'static [&'static str],
    /// The default guidance scale of generation.
    pub guidance_scale: f64,
}

impl Facts {
    /// Whether pipelines of this class belong to the family.
    pub fn matches(&self, class: &str) -> bool {
        let begins = |names: &[&str]| names.iter().any(|name| class.starts_with(name));
        begins(self.pipelines) && !begins(self.other_pipelines)
    }
}

/// How a model is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The device of the model.
    pub device: Device,
    /// The data type of the model.
    pub kind: Kind,
    /// The type of prediction, if the scheduler's configuration is wrong about it.
    pub prediction: Option<Prediction>,
}

impl Options {
    /// The process that a checkpoint's scheduler says, with the caller's type of prediction.
    ///
    /// # Errors
    /// As of [`noise::read`].
    pub fn process(&self, checkpoint: &Checkpoint, pipeline: PipelineSettings) -> Result<Box<dyn Process>> {
        let (config, class) = checkpoint.scheduler()?;
        noise::read(&config, class, pipeline, self.prediction)
    }
}

/// The parts of a model.
pub struct Parts {
    /// The tokenizers and text encoders.
    pub conditioner: Box<dyn Conditioner>,
    /// The autoencoder's encoder.
    pub vae: VaeEncoder,
    /// The autoencoder's configuration.
    pub vae_config: VaeConfig,
    /// The data type of the autoencoder.
    pub vae_kind: Kind,
    /// The denoising network.
    pub denoiser: Box<dyn Denoiser + Send>,
    /// The process that the model was trained to reverse.
    pub process: Box<dyn Process>,
    /// Side of the latents that the model was trained on.
    pub sample_size: i64,
}

/// Models that are assembled in the same way.
pub trait Family: Sync {
    /// The facts about the family.
    fn facts(&self) -> &'static Facts;

    /// Why checkpoints with this index are not supported, if they are of the family and not supported.
    ///
    /// # Errors
    /// `Checkpoint` if a field has another type.
    fn refusal(&self, index: &Json) -> Result<Option<&'static str>> {
        let _ = index;
        Ok(None)
    }

    /// Reads the parts of a checkpoint.
    ///
    /// # Errors
    /// `Checkpoint`, naming the file and the field, if anything is missing, malformed or of an unsupported kind.
    fn open(&self, checkpoint: &Checkpoint, options: &Options) -> Result<Parts>;
}

/// The facts about all families.
pub fn facts() -> Vec<&'static Facts> {
    FAMILIES.iter().map(|family| family.facts()).collect()
}

/// What an index says of the family.
pub struct Found {
    /// The family.
    pub family: &'static dyn Family,
    /// Whether a family knows the pipeline's class. Without it, the family is that of the parts that are listed, or the
    /// first, since old indices list neither.
    pub by_class: bool,
    /// Why the checkpoint is not supported, if it is not.
    pub refusal: Option<&'static str>,
}

/// The family of a pipeline's index, `model_index.json`.
///
/// # Errors
/// `Checkpoint` if a field has another type.
pub fn of_index(index: &Json) -> Result<Found> {
    let class = index.optional::<String>("_class_name")?.unwrap_or_default();
    let by_class = FAMILIES.iter().find(|family| family.facts().matches(&class));
    let lists_all = |family: &&&dyn Family| {
        let facts = family.facts();
        let mut needed = facts.parts.iter().filter(|(part, _)| !facts.optional_parts.contains(part));
        needed.all(|(part, _)| index.class_of(part).is_some())
    };
    let by_parts = || FAMILIES.iter().filter(lists_all).max_by_key(|family| family.facts().parts.len());
    let family = *by_class.or_else(by_parts).unwrap_or(&FAMILIES[0]);
    Ok(Found { family, by_class: by_class.is_some(), refusal: family.refusal(index)? })
}

/// The family of a checkpoint.
///
/// # Errors
/// `Checkpoint` if it is not supported, or a field of the index has another type.
pub fn of_checkpoint(checkpoint: &Checkpoint) -> Result<&'static dyn Family> {
    let found = of_index(checkpoint.index())?;
    match found.refusal {
        Some(reason) => Err(checkpoint.error(&format!("is not supported: {reason}"))),
        None => Ok(found.family),
    }
}

/// Refuses a denoiser, called `name`, of these channels of input and output if its latents differ in shape from the
/// autoencoder's.
fn check_latents(checkpoint: &Checkpoint, name: &str, [inputs, outputs]: [i64; 2], vae: &VaeConfig) -> Result<()> {
    if outputs != inputs {
        return Err(checkpoint.error(&format!(
            "the {name} takes {inputs} channels (in_channels) and gives {outputs} (out_channels); models that predict a \
             variance or anything else beside the noise are not supported"
        )));
    }
    if inputs != vae.latent_channels {
        return Err(checkpoint.error(&format!(
            "the {name} takes {inputs} channels (in_channels), the VAE gives {} (latent_channels); inpainting and depth \
             models are not supported",
            vae.latent_channels
        )));
    }
    Ok(())
}
