//! Stage 1: reads the configurations and named weights of a diffusers folder, independent of the networks in it.
//!
//! The layout is the published one: `model_index.json` and a folder for each part, with its configuration and, for the
//! networks, safetensors. The family of a model ([`crate::families`]) determines which parts it has. Nothing is
//! downloaded here, and no pickle is read.

mod identity;
mod json;
mod part;
mod source;
mod tensors;
mod weight;
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, json};

pub use identity::{Sampled, together};
pub use json::Json;
pub use part::Part;
pub use tensors::{TensorFile, write_atomically};
pub use weight::Weight;
pub use weights::{Scope, Weights};

use crate::runtime::Lock;
use crate::{Error, Result};

/// The files of a tokenizer, see `encode/tokenizer`.
const TOKENIZER: [&str; 5] =
    ["tokenizer_config.json", "special_tokens_map.json", "tokenizer.json", "vocab.json", "merges.txt"];

/// A model folder. Configurations and weights are opened part by part. Each file is opened once, so that weights that
/// are read late belong to the same version of the file.
pub struct Checkpoint {
    dir: PathBuf,
    variant: Option<String>,
    lazy: bool,
    index: Json,
    opened: Lock<Opened>,
}

/// The parts that have been opened so far, by folder.
#[derive(Default)]
struct Opened {
    /// Checksums of configurations and tokenizers.
    settings: BTreeMap<String, String>,
    /// The files of each network.
    parts: BTreeMap<String, Arc<Part>>,
}

/// How the names of a part's weight files begin.
pub fn weights_stem(part: &str) -> &'static str {
    if part.starts_with("text_encoder") { "model" } else { "diffusion_pytorch_model" }
}

impl Checkpoint {
    /// Reads `dir/model_index.json`. `variant` is the middle of a weight file's name, as in
    /// `diffusion_pytorch_model.fp16.safetensors`.
    ///
    /// # Errors
    /// `Checkpoint`, naming the file, if it is missing or malformed.
    pub fn open(dir: &Path, variant: Option<&str>) -> Result<Self> {
        if !dir.is_dir() {
            return Err(Error::Checkpoint(format!(
                "{} is not a folder; expected a model in the diffusers layout (model_index.json, unet/, vae/, …)",
                dir.display()
            )));
        }
        Ok(Checkpoint {
            dir: dir.to_owned(),
            variant: variant.map(str::to_owned),
            lazy: true,
            index: json::read(&dir.join("model_index.json"))?,
            opened: Lock::default(),
        })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The pipeline's index.
    pub fn index(&self) -> &Json {
        &self.index
    }

    /// The class of a part, by the index.
    pub fn class_of(&self, part: &str) -> Option<String> {
        self.index.class_of(part)
    }

    /// The same checkpoint, whose weights on the CPU are each read at first use (`lazy`), or all when a part is opened.
    pub fn lazy(self, lazy: bool) -> Self {
        Checkpoint { lazy, ..self }
    }

    /// Whether weights are read at first use.
    pub fn is_lazy(&self) -> bool {
        self.lazy
    }

    /// The configuration of a part, `dir/part/config.json`.
    ///
    /// # Errors
    /// `Checkpoint`, naming the file, if it is missing or malformed.
    pub fn config(&self, part: &str) -> Result<Json> {
        let read = json::read(&self.dir.join(part).join("config.json"))?;
        self.opened.hold().settings.insert(part.to_owned(), identity::of_settings(read.fields()));
        Ok(read)
    }

    /// The scheduler's configuration, and its class by the index.
    ///
    /// # Errors
    /// `Checkpoint`, naming the file, if it is missing or malformed.
    pub fn scheduler(&self) -> Result<(Json, Option<String>)> {
        let read = json::read(&self.dir.join("scheduler").join("scheduler_config.json"))?;
        let class = self.class_of("scheduler");
        // The class determines the defaults of absent fields, and may be given only by the index.
        let both = Map::from_iter([("class".to_owned(), json!([identity::of_settings(read.fields()), class]))]);
        self.opened.hold().settings.insert("scheduler".to_owned(), identity::of_settings(&both));
        Ok((read, class))
    }

    /// The folder of a tokenizer.
    pub fn tokenizer(&self, part: &str) -> PathBuf {
        let folder = self.dir.join(part);
        self.opened.hold().settings.insert(part.to_owned(), identity::of_files(&folder, &TOKENIZER));
        folder
    }

    /// The weights of a network, on a device and in a data type.
    ///
    /// # Errors
    /// As of [`Part::open`].
    pub fn weights(&self, part: &str, device: tch::Device, kind: tch::Kind) -> Result<Weights> {
        Ok(Weights::new(self.part(part)?, device, kind, self.lazy))
    }

    /// The files of a network.
    ///
    /// # Errors
    /// As of [`Part::open`].
    pub fn part(&self, part: &str) -> Result<Arc<Part>> {
        let known = self.opened.hold().parts.get(part).map(Arc::clone);
        if let Some(known) = known {
            return Ok(known);
        }
        let opened = Arc::new(Part::open(&self.dir.join(part), weights_stem(part), self.variant.as_deref())?);
        Ok(Arc::clone(self.opened.hold().parts.entry(part.to_owned()).or_insert(opened)))
    }

    /// Names of the networks that have been opened.
    pub fn networks(&self) -> Vec<String> {
        self.opened.hold().parts.keys().cloned().collect()
    }

    /// For each folder of an opened part, a checksum of everything in it that scores and images depend on.
    ///
    /// # Errors
    /// As of [`Part::checksum`].
    pub fn identity(&self) -> Result<BTreeMap<String, String>> {
        let (mut settings, parts) = {
            let opened = self.opened.hold();
            (opened.settings.clone(), opened.parts.clone())
        };
        for (name, part) in parts {
            if let Some(of_part) = settings.get_mut(&name) {
                *of_part = together([of_part.as_str(), part.checksum()?]);
            }
        }
        Ok(settings)
    }

    /// An error that names the folder.
    pub fn error(&self, what: &str) -> Error {
        Error::Checkpoint(format!("{}: {what}", self.dir.display()))
    }
}
