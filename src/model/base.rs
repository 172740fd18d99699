//! A checkpoint that is loaded on a device, without deltas.

use std::sync::OnceLock;

use tch::{Device, Kind};

use super::prediction_check::PredictionCheck;
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::encode::VaeDecoder;
use crate::families::{self, Facts, Options, Parts};

/// The parts of a checkpoint on a device.
pub struct Base {
    pub checkpoint: Checkpoint,
    pub facts: &'static Facts,
    pub parts: Parts,
    pub device: Device,
    pub kind: Kind,
    pub prediction_check: PredictionCheck,
    /// Read when an image is first generated.
    decoder: OnceLock<VaeDecoder>,
}

impl Base {
    /// Loads every part of a checkpoint except the VAE's decoder, which is loaded at first use if the checkpoint is
    /// lazy.
    pub fn open(checkpoint: Checkpoint, options: Options) -> Result<Self> {
        let family = families::of_checkpoint(&checkpoint)?;
        let base = Base {
            parts: family.open(&checkpoint, &options)?,
            facts: family.facts(),
            device: options.device,
            kind: options.kind,
            prediction_check: PredictionCheck::default(),
            decoder: OnceLock::new(),
            checkpoint,
        };
        if !base.checkpoint.is_lazy() {
            base.decoder()?;
            base.checkpoint.identity()?;
        }
        Ok(base)
    }

    /// See [`super::Model::decoder`].
    pub fn decoder(&self) -> Result<&VaeDecoder> {
        if let Some(decoder) = self.decoder.get() {
            return Ok(decoder);
        }
        // If two threads read it at the same time, the first one's is kept.
        let read = VaeDecoder::new(&self.checkpoint, &self.parts.vae_config, self.device, self.parts.vae_kind)?;
        Ok(self.decoder.get_or_init(|| read))
    }

    /// See [`super::Model::parameters`].
    pub fn parameters(&self) -> Vec<(&'static str, usize)> {
        let parts = &self.parts;
        let mut by_part =
            vec![(self.facts.denoiser, parts.denoiser.parameters()), ("vae_encoder", parts.vae.parameters())];
        by_part.extend(parts.conditioner.parameters());
        by_part
    }
}
