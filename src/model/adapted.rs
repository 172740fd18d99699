//! A model with deltas.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::Kind;

use super::Model;
use crate::deltas::{Deltas, Fingerprint, Patch};
use crate::families::Parts;
use crate::runtime::Shared;
use crate::{Error, Result};

/// Deltas, and the patch by which the network applies them.
pub struct Adapted {
    pub deltas: Deltas,
    pub patch: Patch,
}

/// See [`Model::with_deltas`].
pub fn adapt(model: &Model, deltas: Deltas, merge: Option<bool>) -> Result<Arc<Shared<Adapted>>> {
    if deltas.architecture != *model.architecture() {
        return Err(Error::Deltas(format!(
            "these deltas were made for another architecture ({}); this model's is {}",
            deltas.architecture.describe(),
            model.architecture().describe()
        )));
    }
    let merge = merge.unwrap_or(model.kind() == Kind::Float);
    let patch = deltas.patch(|target| model.denoiser().weight(target).shallow_clone(), merge)?;
    // SAFETY: tensors and plain data; training writes to copies of its own.
    Ok(Arc::new(unsafe { Shared::new(Adapted { deltas, patch }) }))
}

/// See [`Model::fingerprint`].
pub fn fingerprint(model: &Model, parts: &Parts) -> Result<Fingerprint> {
    let mut settings: BTreeMap<String, String> =
        model.process().settings().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    settings.insert("scaling_factor".to_owned(), parts.vae_config.scaling_factor.to_string());
    // Files of models without a shift do not name it.
    if parts.vae_config.shift_factor != 0.0 {
        settings.insert("shift_factor".to_owned(), parts.vae_config.shift_factor.to_string());
    }
    if parts.conditioner.unconditional_is_zero() {
        settings.insert("unconditional".to_owned(), "zero".to_owned());
    }
    Fingerprint::new(model.architecture(), model.checkpoint(), model.family().denoiser, settings)
}
