//! Stage 9: a text to an image, by the sampler that the checkpoint was made for. Nothing here scores or trains; it is a
//! second user of the stages before.

mod clean;
mod ddim;
mod lcm;
mod picture;
mod plan;
mod sampler;

use std::ops::Range;
use std::sync::Arc;

use tch::{Kind, Tensor};

pub use plan::{Plan, Resolved};
pub use sampler::Sampler;

use crate::backbone::{Batch, MapKind, TextCache, Wanted};
use crate::config::GenerateConfig;
use crate::encode::image::Rgb;
use crate::score::{Event, Model};
use crate::torch::{caught, check_interrupt};
use crate::{Error, Result};

/// What to generate.
pub struct Order<'a> {
    pub prompts: &'a [&'a str],
    /// What images are to keep away from, one a prompt; none at all for the empty text.
    pub negatives: &'a [&'a str],
    /// One a prompt. Its image `j` is made with the seed plus `j`, and so can be made again alone.
    pub seeds: &'a [u64],
    /// float32 `[n, C, h, w]` in place of the seeded initial noise; `n` images, those of a prompt together.
    pub latents: Option<Tensor>,
    /// float32 `[n, steps, C, h, w]` in place of the seeded noise that is added after each step.
    pub noise: Option<Tensor>,
}

/// The texts of a batch.
struct Texts {
    /// `[T, m, D]`
    vectors: Tensor,
    cache: Option<Arc<TextCache>>,
}

impl Model {
    /// Images of every prompt, those of one prompt together. An image depends on its prompt, its negative prompt, its
    /// seed and the options, and on nothing else in the order beyond floating-point rounding.
    ///
    /// Where memory runs out, the number of images at a time is halved. `told` hears how far the work is.
    pub fn generate(
        &self,
        order: &Order,
        config: &GenerateConfig,
        mut told: impl FnMut(Event) -> Result<()>,
    ) -> Result<Vec<Rgb>> {
        let plan = Plan::new(self, order, config)?;
        if plan.images() == 0 {
            return Ok(vec![]);
        }
        let texts = self.encode_texts(&plan.texts, config.truncate)?.vectors;
        let (images, steps) = (plan.images(), plan.sampler.timesteps().len());
        let mut batch = config.batch_size.unwrap_or_else(|| plan.auto_batch(self));
        let mut made = vec![];
        while made.len() < images {
            let rows = made.len()..images.min(made.len() + batch);
            let count = rows.len();
            let before = made.len() * steps;
            let step_done =
                |step: usize| told(Event::Progress { done: before + (step + 1) * count, total: images * steps });
            match caught(|| self.sample(&plan, &texts, rows, step_done)) {
                Ok(pictures) => made.extend(pictures),
                Err(Error::OutOfMemory(_)) if count > 1 => {
                    batch = count / 2;
                    self.make_room();
                    told(Event::SmallerBatch(batch))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(made)
    }

    /// Some of the images, step by step together.
    fn sample(
        &self,
        plan: &Plan,
        texts: &Tensor,
        rows: Range<usize>,
        mut step_done: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Rgb>> {
        let inputs = plan.inputs(rows.clone());
        let index = Tensor::from_slice(&inputs.texts).to_device(self.device());
        let vectors = texts.index_select(0, &index);
        // The same texts at every step.
        let texts = Texts { cache: self.text_cache(&vectors), vectors };
        let mut x = plan.initial(rows.clone()).to_device(self.device());
        for (step, &timestep) in plan.sampler.timesteps().iter().enumerate() {
            check_interrupt()?;
            let prediction = self.predict(&x, self.schedule().clamp(timestep), &texts, &inputs, plan)?;
            let noise = || plan.noise(rows.clone(), step).to_device(self.device());
            x = plan.sampler.step(step, &prediction, &x, noise);
            step_done(step)?;
        }
        self.pictures(&x)
    }

    /// What the network predicts for `x` `[I, C, h, w]`, guided; float32.
    fn predict(&self, x: &Tensor, timestep: i64, texts: &Texts, inputs: &plan::Inputs, plan: &Plan) -> Result<Tensor> {
        let noised = x.to_kind(self.kind());
        let count = x.size()[0];
        let timesteps = Tensor::full([count], timestep, (Kind::Int64, self.device()));
        let (latent_of, text_of) = (&inputs.latent_of, &inputs.text_of);
        let mut batch = Batch::new(&noised, &timesteps, &texts.vectors, latent_of, text_of).guided(plan.scale);
        if let Some(cache) = &texts.cache {
            batch = batch.with_cache(cache, text_of);
        }
        let wanted = Wanted {
            sites: &vec![false; self.sites().len()],
            map: MapKind::Probs,
            keep: &|_, map| map.shallow_clone(),
            digest: None,
            alter: None,
            prediction: true,
        };
        let seen = self.backbone().observe(&batch, self.patch(), &wanted)?;
        let prediction = seen.prediction.expect("it was wanted").to_kind(Kind::Float);
        if !plan.guided {
            return Ok(prediction);
        }
        // Rows come in pairs: with the prompt, with the negative prompt.
        let mut pairs = x.size();
        pairs.insert(1, 2);
        let pairs = prediction.view(pairs.as_slice());
        Ok(guide(&pairs.select(1, 0), &pairs.select(1, 1), plan.scale, plan.rescale))
    }
}

/// Classifier-free guidance `ε(∅) + s (ε(y) − ε(∅))` (Ho & Salimans 2022, in the form of Saharia et al. 2022), brought
/// back to the spread of `ε(y)` as far as `rescale` says (Lin et al. 2024, section 3.4).
fn guide(with_text: &Tensor, without: &Tensor, scale: f64, rescale: f64) -> Tensor {
    let guided = without + (with_text - without) * scale;
    if rescale == 0.0 {
        return guided;
    }
    let spread = |x: &Tensor| x.std_dim([1, 2, 3].as_slice(), true, true);
    let factor = spread(with_text) / spread(&guided);
    &guided * (factor * rescale + (1.0 - rescale))
}
