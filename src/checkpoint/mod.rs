//! Stage 1: a diffusers folder becomes typed configurations and named weights.
//!
//! The layout is the published one: `model_index.json` and the folders `unet`, `vae`, `text_encoder`, `tokenizer`,
//! `scheduler`, each with its configuration and, for the networks, safetensors. Nothing is downloaded here and no
//! pickle is read.

mod identity;
mod json;
mod part;
mod scheduler;
mod sites;
mod source;
mod tensors;
mod text;
mod unet;
mod vae;
mod weight;
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::{Map, json};

pub use identity::{Sampled, together};
pub use part::Part;
pub use scheduler::{
    BetaSchedule, Clip, PIPELINE_OFFSET, Prediction, SamplerKind, SamplingConfig, SchedulerConfig, Spacing,
};
pub use sites::{Site, Stage};
pub use tensors::{TensorFile, write_atomically};
pub use text::TextConfig;
pub use unet::{BlockKind, UNetConfig};
pub use vae::VaeConfig;
pub use weight::Weight;
pub use weights::{Scope, Weights};

use crate::{Error, Result};

/// The folders of networks.
const NETWORKS: [&str; 3] = ["text_encoder", "unet", "vae"];

/// What the tokenizer reads, see `encode/tokenizer`.
const TOKENIZER: [&str; 5] =
    ["tokenizer_config.json", "special_tokens_map.json", "tokenizer.json", "vocab.json", "merges.txt"];

/// A model folder, its configurations read and checked; weights are opened part by part.
pub struct Checkpoint {
    dir: PathBuf,
    variant: Option<String>,
    lazy: bool,
    /// Checksums of the configurations and the tokenizer, by folder.
    settings: BTreeMap<&'static str, String>,
    /// The files of each network, open.
    parts: [(&'static str, OnceLock<Arc<Part>>); 3],
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
        let mut settings = BTreeMap::new();
        let mut config = |part: &'static str, file: &str| {
            let read = json::read(&dir.join(part).join(file))?;
            settings.insert(part, identity::of_settings(read.fields()));
            Ok::<_, Error>(read)
        };
        let index = json::read(&dir.join("model_index.json"))?;
        let scheduler_class = class_of(&index, "scheduler");
        let checkpoint = Checkpoint {
            dir: dir.to_owned(),
            variant: variant.map(str::to_owned),
            lazy: true,
            parts: NETWORKS.map(|part| (part, OnceLock::new())),
            unet: UNetConfig::read(&config("unet", "config.json")?)?,
            vae: VaeConfig::read(&config("vae", "config.json")?)?,
            text: TextConfig::read(&config("text_encoder", "config.json")?)?,
            scheduler: SchedulerConfig::read(&config("scheduler", "scheduler_config.json")?, scheduler_class.clone())?,
            settings: BTreeMap::new(),
        };
        settings.insert("tokenizer", identity::of_files(&dir.join("tokenizer"), &TOKENIZER));
        // The class decides what absent fields mean, and may stand in the index alone.
        let class = Map::from_iter([("class".to_owned(), json!([settings["scheduler"], scheduler_class]))]);
        settings.insert("scheduler", identity::of_settings(&class));
        let checkpoint = Checkpoint { settings, ..checkpoint };
        checkpoint.check_parts_fit()?;
        Ok(checkpoint)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The same, whose weights are read all at once where they are asked for, or each when it is first needed.
    pub fn lazy(self, lazy: bool) -> Self {
        Checkpoint { lazy, ..self }
    }

    /// Whether weights are read when they are first needed.
    pub fn is_lazy(&self) -> bool {
        self.lazy
    }

    /// The weights of `part` (`unet`, `vae` or `text_encoder`).
    pub fn weights(&self, part: &str, device: tch::Device, kind: tch::Kind) -> Result<Weights> {
        Ok(Weights::new(self.part(part)?, device, kind, self.lazy))
    }

    /// The files of `part`. They are opened once, so that what is read late belongs to the rest.
    pub fn part(&self, part: &str) -> Result<Arc<Part>> {
        let (name, known) = self.parts.iter().find(|(name, _)| *name == part).expect("a network of the model");
        if let Some(opened) = known.get() {
            return Ok(Arc::clone(opened));
        }
        let stem = if *name == "text_encoder" { "model" } else { "diffusion_pytorch_model" };
        let opened = Part::open(&self.dir.join(name), stem, self.variant.as_deref())?;
        Ok(Arc::clone(known.get_or_init(|| Arc::new(opened))))
    }

    /// By folder of the model, a checksum of everything in it that scores and pictures depend on.
    ///
    /// # Errors
    /// As of [`Part::digest`].
    pub fn identity(&self) -> Result<BTreeMap<&'static str, String>> {
        let mut found = self.settings.clone();
        for (name, _) in &self.parts {
            let weights = self.part(name)?;
            let settings = found.get_mut(name).expect("its configuration was read");
            *settings = together([settings.as_str(), weights.digest()?]);
        }
        Ok(found)
    }

    fn check_parts_fit(&self) -> Result<()> {
        if self.unet.out_channels != self.unet.in_channels {
            return Err(Error::Checkpoint(format!(
                "{}: the UNet takes {} channels (in_channels) and gives {} (out_channels); models that predict a variance \
                 or anything else beside the noise are not supported",
                self.dir.display(),
                self.unet.in_channels,
                self.unet.out_channels
            )));
        }
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

/// The class that a pipeline's index says a part is of.
fn class_of(index: &json::Json, part: &str) -> Option<String> {
    index.optional::<(Option<String>, Option<String>)>(part).ok().flatten().and_then(|(_, class)| class)
}
