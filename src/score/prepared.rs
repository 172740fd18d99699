//! A request whose images and texts are encoded, to be scored in parts.

use std::ops::Range;
use std::sync::Arc;

use tch::Tensor;

use super::{Event, Model, Request, Scene};
use crate::Result;
use crate::backbone::TextCache;
use crate::config::ScoreConfig;
use crate::torch::Shared;

/// Encoded images and texts, the noise and the configuration of a request; shares the model's weights.
pub struct Prepared {
    model: Model,
    config: ScoreConfig,
    timesteps: Vec<i64>,
    content: Vec<Range<usize>>,
    chosen: Vec<bool>,
    empty_text: usize,
    cache: Option<Arc<TextCache>>,
    tensors: Shared<Tensors>,
}

struct Tensors {
    latents: Tensor,
    noise: Tensor,
    texts: Tensor,
    learned: Vec<Option<Tensor>>,
}

impl Model {
    /// Encodes the images and texts of a request; its pairs do not matter.
    pub fn prepare(&self, request: &Request, config: &ScoreConfig) -> Result<Prepared> {
        let Scene { latents, noise, timesteps, texts, content, chosen, empty_text, learned, cache, .. } =
            self.scene(request, config)?;
        Ok(Prepared {
            model: self.clone(),
            config: config.clone(),
            timesteps,
            content,
            chosen,
            empty_text,
            cache,
            // SAFETY: tensors alone, which are only read.
            tensors: unsafe { Shared::new(Tensors { latents, noise, texts, learned }) },
        })
    }
}

impl Prepared {
    /// Scores of pairs at some of the timesteps, `[pairs][steps]`, `steps` as indices; see [`Model::score_pairs`].
    pub fn score(
        &self,
        pairs: &[(usize, usize)],
        steps: &[usize],
        told: impl FnMut(Event) -> Result<()>,
    ) -> Result<Vec<Vec<f64>>> {
        let Tensors { latents, noise, texts, learned } = &*self.tensors;
        let scene = Scene {
            model: &self.model,
            config: &self.config,
            patch: self.model.patch(),
            latents: latents.shallow_clone(),
            noise: noise.shallow_clone(),
            timesteps: self.timesteps.clone(),
            texts: texts.shallow_clone(),
            content: self.content.clone(),
            chosen: self.chosen.clone(),
            empty_text: self.empty_text,
            learned: learned.iter().map(|weights| weights.as_ref().map(Tensor::shallow_clone)).collect(),
            cache: self.cache.clone(),
            watch: None,
        };
        scene.score(pairs, steps, told)
    }

    /// Numbers of images, texts and timesteps.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.tensors.latents.size()[0] as usize, self.empty_text, self.timesteps.len())
    }
}
