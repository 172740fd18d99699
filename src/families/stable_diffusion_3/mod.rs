//! Stable Diffusion 3 and 3.5 (Esser et al. 2024): a transformer with joint attention of image and text, two CLIP text
//! encoders and T5, and rectified flow.

mod attention;
mod block;
mod conditioning;
mod config;
mod embedding;
mod transformer;

use tch::Device;

pub use config::TransformerConfig;

use self::conditioning::ThreeEncoders;
use self::embedding::PatchEmbedding;
use self::transformer::{POSITIONS, Transformer};
use super::{CLIP_TOKENIZER, Facts, Family, Options, Parts, VAE, check_latents};
use crate::Result;
use crate::checkpoint::{Checkpoint, Json};
use crate::encode::{VaeConfig, VaeEncoder};
use crate::noise::PipelineSettings;

/// The family of Stable Diffusion 3 and 3.5.
pub struct StableDiffusion3;

const CLIP_WITH_PROJECTION: &[&str] = &["CLIPTextModelWithProjection"];

impl Family for StableDiffusion3 {
    fn facts(&self) -> &'static Facts {
        &Facts {
            name: "stable_diffusion_3",
            about: "Stable Diffusion 3 and 3.5 (pipelines of one SD3Transformer2DModel), without T5 (nulls for text_encoder_3 and tokenizer_3)",
            pipelines: &["StableDiffusion3"],
            other_pipelines: &[],
            denoiser: "transformer",
            parts: &[
                ("transformer", &["SD3Transformer2DModel"]),
                ("vae", VAE),
                ("text_encoder", CLIP_WITH_PROJECTION),
                ("text_encoder_2", CLIP_WITH_PROJECTION),
                ("text_encoder_3", &["T5EncoderModel"]),
                ("tokenizer", CLIP_TOKENIZER),
                ("tokenizer_2", CLIP_TOKENIZER),
                ("tokenizer_3", &["T5TokenizerFast", "T5Tokenizer"]),
            ],
            optional_parts: &["text_encoder_3", "tokenizer_3"],
            guidance_scale: 7.0,
        }
    }

    fn refusal(&self, index: &Json) -> Result<Option<&'static str>> {
        // Zeros in its place would be another model's scores.
        Ok(index.class_of("text_encoder_3").is_some().then_some(
            "its text encoder T5 (text_encoder_3) is not read yet; with nulls for text_encoder_3 and tokenizer_3 in \
             model_index.json it is the model without T5, as diffusers loads it with text_encoder_3=None",
        ))
    }

    fn open(&self, checkpoint: &Checkpoint, options: &Options) -> Result<Parts> {
        let (device, kind) = (options.device, options.kind);
        let config = TransformerConfig::read(&checkpoint.config("transformer")?)?;
        let vae = VaeConfig::read(&checkpoint.config("vae")?)?;
        let pipeline = PipelineSettings { steps_offset: None, patch_size: Some(config.patch_size) };
        let process = options.process(checkpoint, pipeline)?;
        check_latents(checkpoint, "transformer", [config.in_channels, config.out_channels], &vae)?;
        let conditioner = ThreeEncoders::open(checkpoint, options, &config)?;
        let positions = checkpoint.weights("transformer", Device::Cpu, kind)?;
        let positions = positions.root().weight(POSITIONS, &PatchEmbedding::positions_shape(&config))?;
        Ok(Parts {
            conditioner: Box::new(conditioner),
            vae: VaeEncoder::new(checkpoint, &vae, device, kind)?,
            vae_config: vae,
            vae_kind: kind,
            denoiser: Box::new(Transformer::new(
                &checkpoint.weights("transformer", device, kind)?,
                positions,
                &config,
            )?),
            process,
            sample_size: config.sample_size,
        })
    }
}
