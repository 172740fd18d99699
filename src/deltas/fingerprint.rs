//! The identity of the model that deltas were made for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Architecture, AttentionKind, Projection, Target};
use crate::Result;
use crate::checkpoint::{Checkpoint, Sampled};

/// Numbers of each layer's `W_k` that files of the first release identify a model by.
const PER_LAYER: u64 = 8;

/// The identity of the model that deltas were made for: its attention layers, its weights, and the settings that its
/// training depends on.
///
/// A model may be published in float32 and float16, and deltas fit both. So files with weights of the same types are
/// compared by checksums, others by a sample, up to rounding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// [`Architecture::describe`].
    pub architecture: String,
    /// The first numbers of every cross-attention's `W_k`.
    pub sample: Vec<f32>,
    /// The identity of the whole model; files of the first release lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
}

/// The identity of a whole model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Base {
    /// Settings by name: the type of prediction, the noise schedule, the scale of latents.
    pub settings: BTreeMap<String, String>,
    /// The weights of each network, by folder.
    pub parts: BTreeMap<String, Sampled>,
}

impl Fingerprint {
    /// The identity of a checkpoint. `denoiser` is the folder of the network that deltas change, and `settings` are
    /// further settings that deltas depend on, by name.
    ///
    /// # Errors
    /// `Checkpoint` if a file was written to since it was opened.
    pub fn new(
        architecture: &Architecture,
        checkpoint: &Checkpoint,
        denoiser: &str,
        settings: BTreeMap<String, String>,
    ) -> Result<Self> {
        let part = checkpoint.part(denoiser)?;
        let mut sample = vec![];
        for layer in 0..architecture.layers.len() {
            let target = Target { layer, attention: AttentionKind::Cross, projection: Projection::Key };
            let [outputs, inputs] = architecture.shape(target);
            let places: Vec<u64> = (0..PER_LAYER.min((outputs * inputs) as u64)).collect();
            sample.extend(part.numbers(&format!("{}.weight", architecture.path(target)), &places)?);
        }
        let mut parts = BTreeMap::new();
        for network in checkpoint.networks() {
            let sampled = checkpoint.part(&network)?.sampled()?;
            parts.insert(network, sampled);
        }
        Ok(Fingerprint { architecture: architecture.describe(), sample, base: Some(Base { settings, parts }) })
    }

    /// The name of the first difference from `other`; `None` if both are the same model up to rounding to half
    /// precision.
    pub fn difference(&self, other: &Fingerprint) -> Option<String> {
        if self.architecture != other.architecture {
            return Some("architecture".into());
        }
        let (Some(base), Some(of_other)) = (&self.base, &other.base) else {
            return (!rounded(&self.sample, &other.sample)).then(|| "unet".into());
        };
        let settings = base.settings.iter().find(|(name, value)| of_other.settings.get(*name) != Some(value));
        let parts = || base.parts.iter().find(|(name, part)| !of_other.parts.get(*name).is_some_and(|b| same(part, b)));
        settings.map(|(name, _)| name.clone()).or_else(|| parts().map(|(name, _)| name.clone()))
    }
}

fn same(a: &Sampled, b: &Sampled) -> bool {
    a.checksum == b.checksum || a.types != b.types && rounded(&a.numbers, &b.numbers)
}

/// Whether two samples may be the same numbers, each rounded to the type that it is stored in.
fn rounded(a: &[f32], b: &[f32]) -> bool {
    let close = |(&a, &b): (&f32, &f32)| {
        let (a, b) = (f64::from(a), f64::from(b));
        a == b || (a - b).abs() <= error_of(a).max(error_of(b))
    };
    a.len() == b.len() && a.iter().zip(b).all(close)
}

/// The largest error of a number that was rounded to half precision: half the spacing of the coarsest half-precision
/// type that can represent it, plus that of float16 for a number that was rounded to float16 before. It is 0 if neither
/// type can represent the number.
fn error_of(x: f64) -> f64 {
    let (exponent, size) = (if x == 0.0 { -1000 } else { x.abs().log2().floor() as i32 }, x.abs());
    let space = |bits: i32, least: i32| 2f64.powi(exponent.max(least) - bits);
    let (brain, half) = (space(7, -126), space(10, -14));
    if size % brain == 0.0 && x != 0.0 {
        return brain / 2.0 + half / 2.0;
    }
    if size % half == 0.0 { half / 2.0 } else { 0.0 }
}
