use serde_json::{Map, Value, json};

use super::Truncate;
use super::read::{bad, batch_size, choice, number, side, whole};
use crate::{Error, Result};

/// How images are generated. Build one with [`GenerateConfig::from_json`] or change [`GenerateConfig::default`].
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateConfig {
    /// Steps of the sampler; `None`: 50, or 4 with a latent consistency model's.
    pub steps: Option<i64>,
    /// `None`: 7.5, or 8.5 where the network takes it as an input.
    pub guidance_scale: Option<f64>,
    /// How far the guided prediction is brought back to the spread of that with the text (Lin et al. 2024, section 3.4).
    pub guidance_rescale: f64,
    /// `η` of DDIM: 0 adds no noise between steps, 1 as much as DDPM.
    pub eta: f64,
    /// Pixels; `None`: the model's own.
    pub height: Option<usize>,
    /// Pixels; `None`: the model's own.
    pub width: Option<usize>,
    /// Images of each prompt.
    pub num_images: usize,
    /// Images at a time; as many as fit well if `None`.
    pub batch_size: Option<usize>,
    pub truncate: Truncate,
}

impl Default for GenerateConfig {
    fn default() -> Self {
        GenerateConfig {
            steps: None,
            guidance_scale: None,
            guidance_rescale: 0.0,
            eta: 0.0,
            height: None,
            width: None,
            num_images: 1,
            batch_size: None,
            truncate: Truncate::Warn,
        }
    }
}

const NAMES: [&str; 9] =
    ["steps", "guidance_scale", "guidance_rescale", "eta", "height", "width", "num_images", "batch_size", "truncate"];

impl GenerateConfig {
    /// Reads a JSON object that holds any of the fields; the others, and those that are null, keep their defaults.
    ///
    /// # Errors
    /// `Config`, naming the field, what was given and what is allowed.
    pub fn from_json(text: &str) -> Result<Self> {
        let fields: Map<String, Value> = serde_json::from_str(text)
            .map_err(|why| Error::Config(format!("options of generation are a JSON object ({why})")))?;
        if let Some(unknown) = fields.keys().find(|key| !NAMES.contains(&key.as_str())) {
            return Err(Error::Config(format!("unknown option {unknown:?}; there are {}", NAMES.join(", "))));
        }
        let get = |name: &str| fields.get(name).filter(|value| !value.is_null());
        let default = GenerateConfig::default();
        let share = |name: &str, default: f64| match get(name) {
            None => Ok(default),
            Some(value) => {
                let x = number(value).filter(|x| (0.0..=1.0).contains(x));
                x.ok_or_else(|| bad(name, value, "a number from 0 to 1"))
            }
        };
        Ok(GenerateConfig {
            steps: get("steps").map(|value| whole("steps", value, 1, 1 << 20).map(|steps| steps as i64)).transpose()?,
            guidance_scale: get("guidance_scale")
                .map(|value| {
                    let scale = number(value).filter(|scale| (0.0..=1e4).contains(scale));
                    scale.ok_or_else(|| bad("guidance_scale", value, "a number from 0 to 10000"))
                })
                .transpose()?,
            guidance_rescale: share("guidance_rescale", default.guidance_rescale)?,
            eta: share("eta", default.eta)?,
            height: get("height").map(|value| side("height", value)).transpose()?,
            width: get("width").map(|value| side("width", value)).transpose()?,
            num_images: match get("num_images") {
                None => default.num_images,
                Some(value) => whole("num_images", value, 1, 1 << 20)? as usize,
            },
            batch_size: get("batch_size").map_or(Ok(default.batch_size), batch_size)?,
            truncate: choice(get("truncate"), "truncate", default.truncate, Truncate::from_name, Truncate::NAMES)?,
        })
    }

    /// All fields, as a JSON object.
    pub fn to_json(&self) -> String {
        json!({
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "guidance_rescale": self.guidance_rescale,
            "eta": self.eta,
            "height": self.height,
            "width": self.width,
            "num_images": self.num_images,
            "batch_size": self.batch_size.map_or(json!("auto"), |size| json!(size)),
            "truncate": self.truncate.name(),
        })
        .to_string()
    }
}
