//! What a batch of evaluations needs before the network is run.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

use tch::Tensor;

use super::Scene;
use super::plan::Unit;
use crate::Result;
use crate::backbone::{Batch, Pick, TextCache};
use crate::config::{Method, TokenSet};
use crate::nn;
use crate::torch::upload;

/// Everything on the model's device that is read, and how it belongs together.
pub struct Inputs {
    noised: Tensor,
    timesteps: Tensor,
    text: Tensor,
    latent_pick: Pick,
    text_pick: Pick,
    /// Of [`Digesting`](crate::nn::Digesting), where they are used on the device.
    pub ranges: Option<Tensor>,
    /// `[B, C, h, w]`, where the prediction is wanted.
    pub target: Option<Tensor>,
    /// By latent.
    times: Vec<i64>,
    pub latent_of: Vec<usize>,
    pub text_of: Vec<usize>,
    /// By row, the text's index in the scene.
    scene_text_of: Vec<usize>,
    content: Vec<Range<usize>>,
    /// By site, whether its map is wanted.
    pub sites: Vec<bool>,
    /// Whether a map was formed to be pooled, where a digest might have done.
    pub formed: Cell<bool>,
}

impl Inputs {
    /// The batch for the backbone.
    pub fn batch<'a>(&'a self, cache: Option<&'a TextCache>) -> Batch<'a> {
        let picks = [&self.latent_pick, &self.text_pick].map(|pick| pick.map(Tensor::shallow_clone));
        let batch = Batch::picked(&self.noised, &self.timesteps, &self.text, picks, self.rows());
        match cache {
            Some(cache) => batch.with_cache(cache, &self.scene_text_of),
            None => batch,
        }
    }

    /// The timestep of each row.
    pub fn times(&self) -> Vec<i64> {
        self.latent_of.iter().map(|&latent| self.times[latent]).collect()
    }

    /// `z_t` of a row, `[C, h, w]`.
    pub fn noised_of(&self, row: usize) -> Tensor {
        self.noised.get(self.latent_of[row] as i64)
    }

    pub fn rows(&self) -> usize {
        self.latent_of.len()
    }

    /// By row, where the text's own tokens are.
    pub fn content(&self) -> &[Range<usize>] {
        &self.content
    }

    /// The same with what `f` makes of each tensor, in an order that is always the same.
    pub fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Inputs {
        Inputs {
            noised: f(&self.noised),
            timesteps: f(&self.timesteps),
            text: f(&self.text),
            latent_pick: self.latent_pick.map(&mut *f),
            text_pick: self.text_pick.map(&mut *f),
            ranges: self.ranges.as_ref().map(&mut *f),
            target: self.target.as_ref().map(&mut *f),
            times: self.times.clone(),
            latent_of: self.latent_of.clone(),
            text_of: self.text_of.clone(),
            scene_text_of: self.scene_text_of.clone(),
            content: self.content.clone(),
            sites: self.sites.clone(),
            formed: self.formed.clone(),
        }
    }
}

impl Scene<'_> {
    /// Gathers distinct latents and texts, and noises the latents (Eq. 3).
    pub fn inputs(&self, units: &[Unit], prediction: bool) -> Result<Inputs> {
        let (device, schedule) = (self.model.device(), self.model.schedule());
        let conditional = units[0].text != self.empty_text;
        let attention = conditional && self.config.method != Method::Denoising;

        let (latents, latent_of) = distinct(units.iter().map(|unit| (unit.image, unit.step)));
        let (texts, text_of) = distinct(units.iter().map(|unit| unit.text));
        let times: Vec<i64> = latents.iter().map(|&(_, step)| schedule.clamp(self.timesteps[step])).collect();
        let index = |of: &[usize]| {
            let of: Vec<i64> = of.iter().map(|&i| i as i64).collect();
            upload(&Tensor::from_slice(&of), device)
        };
        let of_latents = |part: fn(&(usize, usize)) -> usize| index(&latents.iter().map(part).collect::<Vec<_>>());
        let clean = self.latents.index_select(0, &of_latents(|&(image, _)| image));
        let noise = self.noise.index_select(0, &of_latents(|&(_, step)| step));
        let noised = schedule.add_noise(&clean, &noise, &times).to_kind(self.model.kind());
        let text = self.texts.index_select(0, &index(&texts));
        let content: Vec<Range<usize>> = units.iter().map(|unit| self.content[unit.text].clone()).collect();
        let counted = attention && self.config.tokens == TokenSet::Content && device.is_cuda();
        Ok(Inputs {
            latent_pick: Pick::new(&latent_of, &noised),
            text_pick: Pick::new(&text_of, &text),
            ranges: counted.then(|| nn::ranges(&content, device)),
            target: prediction.then(|| self.model.target(&clean, &noise, &times).index_select(0, &index(&latent_of))),
            timesteps: upload(&Tensor::from_slice(&times), device),
            times,
            noised,
            text,
            content,
            sites: if attention { self.chosen.clone() } else { vec![false; self.chosen.len()] },
            latent_of,
            text_of,
            scene_text_of: units.iter().map(|unit| unit.text).collect(),
            formed: Cell::new(false),
        })
    }
}

/// The distinct values in order of first use, and for each value which of them it is.
fn distinct<T: Copy + Eq + Hash>(values: impl Iterator<Item = T>) -> (Vec<T>, Vec<usize>) {
    let mut found = vec![];
    let mut place = HashMap::new();
    let index = values.map(|value| {
        *place.entry(value).or_insert_with(|| {
            found.push(value);
            found.len() - 1
        })
    });
    let index = index.collect();
    (found, index)
}
