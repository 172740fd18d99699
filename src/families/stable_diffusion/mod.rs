//! Stable Diffusion 1.x and 2.x, and latent consistency models distilled from them: a UNet, a CLIP text encoder, DDPM's
//! noise.

mod blocks;
mod config;
mod resnet;
mod time;
mod transformer;
mod unet;

use tch::Tensor;

pub use config::UNetConfig;
pub use unet::UNet;

use super::clip::{ClipEncoder, LABEL};
use super::{CLIP, CLIP_TOKENIZER, Facts, Family, Options, Parts, UNET, VAE, check_latents};
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::encode::text::{ClipTextConfig, Conditioner, Conditioning, Tokens};
use crate::encode::tokenizer::Truncate;
use crate::encode::{VaeConfig, VaeEncoder};
use crate::noise::{PIPELINE_OFFSET, PipelineSettings};

/// The family of Stable Diffusion 1.x and 2.x.
pub struct StableDiffusion;

impl Family for StableDiffusion {
    fn facts(&self) -> &'static Facts {
        &Facts {
            name: "stable_diffusion",
            about: "Stable Diffusion 1.x and 2.x and latent consistency models made of them (pipelines of one \
                    UNet2DConditionModel, one CLIPTextModel and one AutoencoderKL)",
            pipelines: &["StableDiffusion", "LatentConsistencyModel"],
            other_pipelines: &["StableDiffusionXL", "StableDiffusion3"],
            denoiser: "unet",
            parts: &[("unet", UNET), ("vae", VAE), ("text_encoder", CLIP), ("tokenizer", CLIP_TOKENIZER)],
            optional_parts: &[],
            guidance_scale: 7.5,
        }
    }

    fn open(&self, checkpoint: &Checkpoint, options: &Options) -> Result<Parts> {
        let (device, kind) = (options.device, options.kind);
        let unet = UNetConfig::read(&checkpoint.config("unet")?)?;
        let vae = VaeConfig::read(&checkpoint.config("vae")?)?;
        let text = ClipTextConfig::read(&checkpoint.config("text_encoder")?)?;
        let pipeline = PipelineSettings { steps_offset: Some(PIPELINE_OFFSET), patch_size: None };
        let process = options.process(checkpoint, pipeline)?;
        check_latents(checkpoint, "UNet", [unet.in_channels, unet.out_channels], &vae)?;
        if unet.added.is_some() {
            return Err(checkpoint.error(
                "the UNet takes a pooled text and sizes (addition_embed_type), which pipelines of Stable Diffusion 1 and 2 \
                 do not give; model_index.json should name StableDiffusionXLPipeline",
            ));
        }
        if unet.cross_attention_dim != text.hidden_size {
            return Err(checkpoint.error(&format!(
                "the UNet expects text vectors of width {} (cross_attention_dim), the text encoder gives {} (hidden_size)",
                unet.cross_attention_dim, text.hidden_size
            )));
        }
        let encoder = ClipEncoder::open(checkpoint, options, ["tokenizer", "text_encoder"], &text, false)?;
        Ok(Parts {
            conditioner: Box::new(ClipConditioner { encoder, columns: text.max_tokens }),
            vae: VaeEncoder::new(checkpoint, &vae, device, kind)?,
            vae_config: vae,
            vae_kind: kind,
            denoiser: Box::new(UNet::new(&checkpoint.weights("unet", device, kind)?, &unet)?),
            process,
            sample_size: unet.sample_size,
        })
    }
}

/// A conditioner of one CLIP text encoder, whose last hidden state is the context.
struct ClipConditioner {
    encoder: ClipEncoder,
    columns: i64,
}

impl Conditioner for ClipConditioner {
    fn columns(&self) -> usize {
        self.columns as usize
    }

    fn tokenize(&self, text: &str, truncate: Truncate) -> Result<Tokens> {
        Ok(Tokens::side_by_side(LABEL, vec![self.encoder.tokenizer.encode(text, truncate)?]))
    }

    fn encode(&self, ids: &[Tensor]) -> Result<Conditioning> {
        Ok(Conditioning { context: self.encoder.network.last_hidden_state(&ids[0])?, pooled: None })
    }

    fn parameters(&self) -> Vec<(&'static str, usize)> {
        vec![("text_encoder", self.encoder.network.parameters())]
    }
}
