//! Stage 9: text-to-image generation with the sampler of the checkpoint. It uses the model stage and is independent of
//! training.

mod plan;

use std::ops::Range;
use std::sync::Arc;

use tch::{Kind, Tensor};

pub use plan::{GeneratePlan, Resolved};

use crate::config::GenerateConfig;
use crate::denoiser::{Batch, Capture, TextCache};
use crate::encode::Conditioning;
use crate::encode::image::Rgb;
use crate::model::{Event, Model};
use crate::noise::Time;
use crate::runtime::{caught, check_interrupt};
use crate::score::text_cache;
use crate::{Error, Result};

/// What to generate.
pub struct GenerateRequest<'a> {
    /// The texts that images are generated for.
    pub prompts: &'a [&'a str],
    /// The negative prompt of each prompt; if empty, the unconditional text is used for all.
    pub negatives: &'a [&'a str],
    /// The seed of each prompt. Image `j` of a prompt uses the seed plus `j`, so that it can be generated again alone.
    pub seeds: &'a [u64],
    /// float32 `[n, C, h, w]` that replaces the seeded initial noise; the `n` images of all prompts, grouped by prompt.
    pub latents: Option<Tensor>,
    /// float32 `[n, steps, C, h, w]` that replaces the seeded noise that is added after each step.
    pub noise: Option<Tensor>,
}

/// The texts of a batch.
struct BatchTexts {
    conditioning: Conditioning,
    cache: Option<Arc<TextCache>>,
}

impl Model {
    /// Generates the images of every prompt, grouped by prompt. An image depends on its prompt, its negative prompt,
    /// its seed and the options, and up to floating-point rounding on nothing else in the request.
    ///
    /// When memory runs out, the number of images at a time is halved. `on_progress` receives the number of evaluations
    /// done.
    ///
    /// # Errors
    /// `Config` if the request or the options do not fit the model; `Numerical` if a latent or an image is not finite;
    /// `OutOfMemory`; `Interrupted`.
    pub fn generate(
        &self,
        request: &GenerateRequest,
        config: &GenerateConfig,
        mut on_progress: impl FnMut(Event) -> Result<()>,
    ) -> Result<Vec<Rgb>> {
        let plan = GeneratePlan::new(self, request, config)?;
        if plan.images() == 0 {
            return Ok(vec![]);
        }
        let texts = self.encode_texts_and_none(&plan.texts, config.truncate)?.conditioning;
        let (images, steps) = (plan.images(), plan.sampler.times().len());
        let mut batch = config.batch_size.unwrap_or_else(|| plan.auto_batch(self));
        let mut made = vec![];
        while made.len() < images {
            let rows = made.len()..images.min(made.len() + batch);
            let count = rows.len();
            let before = made.len() * steps;
            let step_done =
                |step: usize| on_progress(Event::Progress { done: before + (step + 1) * count, total: images * steps });
            match caught(|| self.sample(&plan, &texts, rows, step_done)) {
                Ok(images) => made.extend(images),
                Err(Error::OutOfMemory(_)) if count > 1 => {
                    batch = count / 2;
                    self.make_room();
                    on_progress(Event::SmallerBatch(batch))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(made)
    }

    /// Generates a batch of the images.
    fn sample(
        &self,
        plan: &GeneratePlan,
        texts: &Conditioning,
        rows: Range<usize>,
        mut step_done: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Rgb>> {
        let inputs = plan.inputs(rows.clone());
        let index = Tensor::from_slice(&inputs.texts).to_device(self.device());
        let conditioning = texts.select(&index);
        // The same texts at every step.
        let texts = BatchTexts { cache: text_cache(self, &conditioning), conditioning };
        let mut x = plan.initial(rows.clone()).to_device(self.device());
        for (step, &time) in plan.sampler.times().iter().enumerate() {
            check_interrupt()?;
            let prediction = self.predict(&x, time, &texts, &inputs, plan)?;
            let noise = || plan.noise(rows.clone(), step).to_device(self.device());
            x = plan.sampler.step(step, &prediction, &x, &noise);
            step_done(step)?;
        }
        self.decoded(&x)
    }

    /// The guided prediction for `x` `[I, C, h, w]`, float32.
    fn predict(
        &self,
        x: &Tensor,
        time: Time,
        texts: &BatchTexts,
        inputs: &plan::BatchIndices,
        plan: &GeneratePlan,
    ) -> Result<Tensor> {
        let noised = x.to_kind(self.kind());
        let count = x.size()[0];
        let times = Tensor::full([count], self.process().model_time(time), (Kind::Double, self.device()));
        let (latent_of, text_of) = (&inputs.latent_of, &inputs.text_of);
        let mut batch = Batch::new(&noised, &times, &texts.conditioning, latent_of, text_of, plan.conditions);
        if let Some(cache) = &texts.cache {
            batch = batch.with_cache(cache, text_of);
        }
        let none = vec![false; self.layers().len()];
        let seen = self.denoiser().observe(&batch, self.patch(), &Capture::prediction(&none))?;
        let prediction = seen.prediction.expect("it was wanted").to_kind(Kind::Float);
        if !plan.guided {
            return Ok(prediction);
        }
        // Rows alternate: with the prompt, with the negative prompt.
        let mut pairs = x.size();
        pairs.insert(1, 2);
        let pairs = prediction.view(pairs.as_slice());
        Ok(guide(&pairs.select(1, 0), &pairs.select(1, 1), plan.scale, plan.rescale))
    }

    /// Decodes latents `[n, C, h, w]` to images.
    fn decoded(&self, latents: &Tensor) -> Result<Vec<Rgb>> {
        self.finite("generation, perhaps by its guidance_scale,", latents)?;
        let images = self.decode_latents(latents)?;
        let bytes = ((images / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round().to_kind(Kind::Uint8);
        let bytes = bytes.permute([0, 2, 3, 1]).contiguous().to_device(tch::Device::Cpu);
        let size = bytes.size();
        let (height, width) = (size[1] as usize, size[2] as usize);
        let image = |i: i64| {
            let one = bytes.get(i);
            let mut data = vec![0u8; one.numel()];
            one.copy_data_u8(&mut data, one.numel());
            Rgb { width, height, data }
        };
        Ok((0..size[0]).map(image).collect())
    }
}

/// Classifier-free guidance `ε(∅) + s (ε(y) − ε(∅))` (Ho & Salimans 2022, in the form of Saharia et al. 2022),
/// interpolated by `rescale` towards the standard deviation of `ε(y)` (Lin et al. 2024, section 3.4).
fn guide(with_text: &Tensor, without: &Tensor, scale: f64, rescale: f64) -> Tensor {
    let guided = without + (with_text - without) * scale;
    if rescale == 0.0 {
        return guided;
    }
    let spread = |x: &Tensor| x.std_dim([1, 2, 3].as_slice(), true, true);
    let factor = spread(with_text) / spread(&guided);
    &guided * (factor * rescale + (1.0 - rescale))
}
