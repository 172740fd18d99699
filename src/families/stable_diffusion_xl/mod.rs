//! Stable Diffusion XL and models fine-tuned from it (Podell et al. 2023): the UNet of Stable Diffusion with more
//! blocks per transformer, two text encoders whose vectors are concatenated, and sizes as inputs.

mod conditioning;

use tch::Kind;

use self::conditioning::TwoEncoders;
use super::stable_diffusion::{UNet, UNetConfig};
use super::{CLIP, CLIP_TOKENIZER, Facts, Family, Options, Parts, UNET, VAE, check_latents};
use crate::Result;
use crate::checkpoint::{Checkpoint, Json};
use crate::encode::{VaeConfig, VaeEncoder};
use crate::noise::PipelineSettings;

/// The family of Stable Diffusion XL.
pub struct StableDiffusionXl;

impl Family for StableDiffusionXl {
    fn facts(&self) -> &'static Facts {
        &Facts {
            name: "stable_diffusion_xl",
            about: "base models of Stable Diffusion XL (with a second text encoder, CLIPTextModelWithProjection)",
            pipelines: &["StableDiffusionXL"],
            other_pipelines: &[],
            denoiser: "unet",
            parts: &[
                ("unet", UNET),
                ("vae", VAE),
                ("text_encoder", CLIP),
                ("text_encoder_2", CLIP),
                ("tokenizer", CLIP_TOKENIZER),
                ("tokenizer_2", CLIP_TOKENIZER),
            ],
            optional_parts: &[],
            guidance_scale: 5.0,
        }
    }

    fn refusal(&self, index: &Json) -> Result<Option<&'static str>> {
        let aesthetics = index.or("requires_aesthetics_score", false)?;
        let lacks_encoder = index.class_of("text_encoder").is_none() && index.class_of("text_encoder_2").is_some();
        // A refiner lacks the first text encoder and the target size.
        Ok((aesthetics || lacks_encoder).then_some(
            "it is a refiner of Stable Diffusion XL (requires_aesthetics_score, or no text_encoder), trained on the \
             lowest fifth of the noise levels alone; use the base model",
        ))
    }

    fn open(&self, checkpoint: &Checkpoint, options: &Options) -> Result<Parts> {
        let (device, kind) = (options.device, options.kind);
        let unet = UNetConfig::read(&checkpoint.config("unet")?)?;
        let vae = VaeConfig::read(&checkpoint.config("vae")?)?;
        // Its pipeline overrides no field of the scheduler's configuration.
        let process = options.process(checkpoint, PipelineSettings { steps_offset: None, patch_size: None })?;
        check_latents(checkpoint, "UNet", [unet.in_channels, unet.out_channels], &vae)?;
        let conditioner = TwoEncoders::open(checkpoint, options, &unet)?;
        // The autoencoder overflows in float16.
        let vae_kind = if kind == Kind::Half { Kind::Float } else { kind };
        Ok(Parts {
            conditioner: Box::new(conditioner),
            vae: VaeEncoder::new(checkpoint, &vae, device, vae_kind)?,
            vae_config: vae,
            vae_kind,
            denoiser: Box::new(UNet::new(&checkpoint.weights("unet", device, kind)?, &unet)?),
            process,
            sample_size: unet.sample_size,
        })
    }
}
