//! Stage 7: per head, layer and timestep to a score. Algorithm 2 is [`Model::score_pairs`].

mod attribution;
mod backprop;
mod layer;
mod model;
mod observe;
mod plan;
mod scene;
mod select;
mod weights;

use std::collections::HashMap;

use tch::{Device, Tensor};

pub use layer::layer_score;
pub use model::{Model, Parameters, Texts};
pub use observe::{Look, Sight};
pub use plan::Unit;
pub use scene::{Kept, Rows, Scene, learned_weights};
pub use select::sites as select_sites;

use self::plan::Plan;
use crate::config::{Method, ScoreConfig, TokenSet};
use crate::encode::image::Rgb;
use crate::torch::{caught, shim, to_vec64};
use crate::{Error, Result};

/// What to score: images, texts, and which of them belong together.
pub struct Request<'a> {
    pub images: &'a [Rgb],
    pub texts: &'a [&'a str],
    /// `(image, text)` indices; the same pair may come twice.
    pub pairs: &'a [(usize, usize)],
    /// float32 `[steps, C, h, w]` in place of the seeded noise.
    pub noise: Option<Tensor>,
}

impl Model {
    /// Algorithm 2: the score of every pair at every timestep, `[pairs][steps]`; a pair's score is their mean.
    ///
    /// Images and texts are encoded once, the noise of a timestep is shared by all pairs, and a score does not depend
    /// on the batch size, the order of the pairs or what else is in the request, beyond floating-point rounding.
    /// Where memory runs out, a batch is halved and tried again. `told` hears how far the work is.
    pub fn score_pairs(
        &self,
        request: &Request,
        config: &ScoreConfig,
        mut told: impl FnMut(Event) -> Result<()>,
    ) -> Result<Vec<Vec<f64>>> {
        if request.pairs.is_empty() {
            return self.check(request, config).map(|_| vec![]);
        }
        let scene = self.scene(request, config)?;
        let plan =
            Plan::new(request.pairs, scene.timesteps.len(), config.compares_to_empty().then_some(scene.empty_text));
        let mut batch = config.batch_size.unwrap_or_else(|| self.auto_batch(&scene.latents));
        let mut values: HashMap<Unit, Value> = HashMap::with_capacity(plan.units.len());
        let total = plan.units.len();
        for mut left in plan.parts() {
            while !left.is_empty() {
                let (units, rest) = left.split_at(batch.min(left.len()));
                match caught(|| scene.evaluate(units, config.method != Method::Attention)) {
                    Ok(rows) => values.extend(units.iter().copied().zip(Value::of(&rows, units.len()))),
                    Err(Error::OutOfMemory(_)) if units.len() > 1 => {
                        batch = units.len() / 2;
                        shim::empty_cuda_cache();
                        told(Event::SmallerBatch(batch))?;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                left = rest;
                told(Event::Progress { done: values.len(), total })?;
            }
        }
        let score = |&(image, text): &(usize, usize), step: usize| {
            let unit = values[&Unit { image, text, step }];
            let empty = || values[&Unit { image, text: scene.empty_text, step }].error;
            let help = if config.compares_to_empty() { empty() - unit.error } else { -unit.error };
            match config.method {
                Method::Attention => unit.attention,
                Method::Denoising => help,
                Method::Combined => unit.attention + config.denoising_weight * help,
            }
        };
        let steps = scene.timesteps.len();
        Ok(request.pairs.iter().map(|pair| (0..steps).map(|step| score(pair, step)).collect()).collect())
    }

    /// Images and texts encoded once, with everything else that the request's evaluations share.
    fn scene<'a>(&'a self, request: &Request, config: &'a ScoreConfig) -> Result<Scene<'a>> {
        let Checked { timesteps, noise, chosen, learned } = self.check(request, config)?;
        let latents = self.encode_images(request.images, config)?;
        let texts = self.texts_of(request, config)?;
        Ok(Scene {
            model: self,
            config,
            patch: self.patch(),
            latents,
            noise,
            timesteps,
            content: texts.tokens.into_iter().map(|tokens| tokens.content).collect(),
            texts: texts.vectors,
            chosen,
            empty_text: request.texts.len(),
            learned,
            watch: None,
        })
    }

    /// Whatever can be wrong with a request before anything is encoded.
    fn check(&self, request: &Request, config: &ScoreConfig) -> Result<Checked> {
        let timesteps = self.timesteps(config)?;
        let noise = self.noise_or_given(config, request.noise.as_ref())?;
        let chosen = select::sites(self.sites(), &config.layers)?;
        select::check_heads(self.sites(), &chosen, &config.heads)?;
        let learned = learned_weights(self, config, &chosen)?;
        Ok(Checked { timesteps, noise, chosen, learned })
    }

    /// Text vectors of the request, and of the empty text at the end where the method needs it.
    fn texts_of(&self, request: &Request, config: &ScoreConfig) -> Result<Texts> {
        let mut all = request.texts.to_vec();
        if config.compares_to_empty() {
            all.push("");
        }
        let texts = self.encode_texts(&all, config.truncate)?;
        let own_tokens_count = config.tokens == TokenSet::Content && config.method != Method::Denoising;
        let wordless = texts.tokens[..request.texts.len()].iter().position(|tokens| tokens.content.is_empty());
        if let Some(wordless) = wordless.filter(|_| own_tokens_count) {
            return Err(Error::Config(format!(
                "text {:?} has no tokens of its own, and tokens is \"content\"; use tokens=\"all\" or a text with words",
                request.texts[wordless]
            )));
        }
        Ok(texts)
    }

    /// The noise of a request on the model's device: the given one, checked, or the seeded one.
    fn noise_or_given(&self, config: &ScoreConfig, given: Option<&Tensor>) -> Result<Tensor> {
        let Some(noise) = given else {
            return Ok(self.noise(config)?.to_device(self.device()));
        };
        let [c, h, w] = self.latent_shape(config)?;
        let expected = [self.timesteps(config)?.len() as i64, c, h, w];
        if noise.size() != expected {
            return Err(Error::Config(format!(
                "noise has the shape {:?}; expected [steps, C, h, w] = {expected:?}",
                noise.size()
            )));
        }
        if noise.isfinite().all().int64_value(&[]) == 0 {
            return Err(Error::Config("noise holds values that are not finite".into()));
        }
        Ok(noise.to_device(self.device()))
    }

    /// Evaluations at a time: on the CPU one of 64×64 latents already fills the cores, a GPU wants many more, as far as
    /// its free memory goes.
    pub fn auto_batch(&self, latents: &Tensor) -> usize {
        let size = latents.size();
        let pixels = (size[2] * size[3]) as usize;
        let Device::Cuda(index) = self.device() else {
            return (4096 / pixels).clamp(1, 256);
        };
        let wanted = (64 * 4096 / pixels).clamp(1, 256);
        let room = shim::cuda_memory(index).map_or(wanted, |memory| memory.free / (pixels * BYTES_PER_PIXEL));
        wanted.min(room).max(1)
    }
}

/// Upper estimate of what one evaluation of Stable Diffusion's UNet takes on a GPU, by latent pixel: 256 MiB at 64×64.
const BYTES_PER_PIXEL: usize = 64 << 10;

/// What [`Model::score_pairs`] says while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// So many evaluations of the UNet are done, of so many.
    Progress { done: usize, total: usize },
    /// Memory ran out; batches are of this size from now on.
    SmallerBatch(usize),
}

/// What a configuration comes to on this model.
struct Checked {
    timesteps: Vec<i64>,
    noise: Tensor,
    chosen: Vec<bool>,
    learned: Vec<Option<Tensor>>,
}

/// What one evaluation of the UNet gives, as numbers.
#[derive(Clone, Copy)]
struct Value {
    attention: f64,
    error: f64,
}

impl Value {
    fn of(rows: &Rows, count: usize) -> impl Iterator<Item = Value> {
        let numbers = |tensor: &Option<Tensor>| match tensor {
            Some(tensor) => to_vec64(tensor),
            None => vec![0.0; count],
        };
        let (attention, error) = (numbers(&rows.attention), numbers(&rows.error));
        attention.into_iter().zip(error).map(|(attention, error)| Value { attention, error })
    }
}
