//! A checked request for images, resolved for a model.

use std::collections::HashMap;
use std::ops::Range;

use tch::Tensor;

use super::GenerateRequest;
use crate::config::GenerateConfig;
use crate::denoiser::{CONSISTENCY_GUIDANCE, MicroConditions};
use crate::model::{Model, check_side};
use crate::noise::{self, Sampler, Time};
use crate::{Error, Result};

/// Options with the model's defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resolved {
    /// Number of sampler steps.
    pub steps: i64,
    /// The guidance scale; 1 is no guidance.
    pub guidance_scale: f64,
    /// Rows of an image, pixels.
    pub height: usize,
    /// Columns of an image, pixels.
    pub width: usize,
}

impl Resolved {
    /// Fills in the model's defaults.
    ///
    /// # Errors
    /// `Config` if the model cannot take a side, or `eta` is given to a sampler that has none.
    pub fn new(model: &Model, config: &GenerateConfig) -> Result<Self> {
        let process = model.process();
        if !process.takes_eta() && config.eta > 0.0 {
            return Err(Error::Config(format!(
                "eta is {}; this model's sampler adds no such noise, use eta=0",
                config.eta
            )));
        }
        let side = |name: &str, given: Option<usize>| match given {
            None => Ok(model.resolution()),
            Some(side) => check_side(model, name, side).map(|()| side),
        };
        Ok(Resolved {
            steps: config.steps.unwrap_or_else(|| process.default_steps()),
            guidance_scale: config.guidance_scale.unwrap_or(match model.denoiser().reads_guidance() {
                true => CONSISTENCY_GUIDANCE,
                false => model.family().guidance_scale,
            }),
            height: side("height", config.height)?,
            width: side("width", config.width)?,
        })
    }

    /// Height and width of the latents.
    pub fn latent_size(&self, model: &Model) -> [i64; 2] {
        [self.height, self.width].map(|side| side as i64 / model.vae().scale_factor())
    }
}

/// A checked request.
pub struct GeneratePlan<'a> {
    /// The sampler and its times.
    pub sampler: Box<dyn Sampler + 'a>,
    /// The distinct texts.
    pub texts: Vec<&'a str>,
    /// The guidance scale.
    pub scale: f64,
    /// By how much guided predictions are rescaled, 0 to 1.
    pub rescale: f64,
    /// Whether every latent is predicted twice, with the prompt and with the negative prompt.
    pub guided: bool,
    request: &'a GenerateRequest<'a>,
    images_per_prompt: usize,
    shape: [i64; 3],
    /// For each prompt, the indices of its text and of its negative prompt; the index after the last text is the
    /// unconditional text.
    texts_of: Vec<(usize, usize)>,
    /// Sizes and guidance that some networks take as inputs.
    pub conditions: MicroConditions,
    initial_time: Time,
}

/// The indices by which the rows of a batch pair latents and texts.
pub struct BatchIndices {
    /// The indices of the batch's distinct texts in the plan, in order of first use.
    pub texts: Vec<i64>,
    /// For each row, its latent.
    pub latent_of: Vec<usize>,
    /// For each row, its text among `texts`.
    pub text_of: Vec<usize>,
}

impl<'a> GeneratePlan<'a> {
    /// Checks a request and resolves it for a model.
    ///
    /// # Errors
    /// `Config` if something does not fit the model; `Checkpoint` if the scheduler's configuration cannot generate.
    pub fn new(model: &'a Model, request: &'a GenerateRequest<'a>, config: &GenerateConfig) -> Result<Self> {
        let fail = |what: String| Err(Error::Config(what));
        let GenerateRequest { prompts, negatives, seeds, latents, noise } = request;
        if seeds.len() != prompts.len() || !(negatives.is_empty() || negatives.len() == prompts.len()) {
            return fail(format!(
                "{} prompts, {} negative prompts and {} seeds were given; expected as many of each, or no negative ones",
                prompts.len(),
                negatives.len(),
                seeds.len()
            ));
        }
        let found = Resolved::new(model, config)?;
        let embedded = model.denoiser().reads_guidance();
        if embedded && !negatives.is_empty() {
            return fail("a latent consistency model takes no negative prompt: it was distilled without".into());
        }
        let factor = model.vae().scale_factor();
        let [height, width] = found.latent_size(model);
        let mut shape = [model.vae().latent_channels, height, width];
        // Given latents determine the size, unless the options do.
        if let Some([_, _, height, width]) = latents.as_ref().map(Tensor::size).as_deref()
            && (config.height, config.width) == (None, None)
        {
            (shape[1], shape[2]) = (*height, *width);
        }
        let [c, h, w] = shape;
        if h < 1 || w < 1 {
            return fail(format!(
                "latents of {h} × {w} make no image; expected [images, C, h, w] with h and w above 0"
            ));
        }
        for (name, side) in [("the height of latents, in pixels,", h), ("the width of latents, in pixels,", w)] {
            check_side(model, name, (side * factor) as usize)?;
        }
        let sampler = model.process().sampler(found.steps, config.eta, [h, w])?;
        let count = (prompts.len() * config.num_images) as i64;
        checked("latents", "[images, C, h, w]", latents.as_ref(), &[count, c, h, w])?;
        checked("noise", "[images, steps, C, h, w]", noise.as_ref(), &[count, found.steps, c, h, w])?;
        let mut texts = vec![];
        let mut place = HashMap::new();
        let mut index = |text: &'a str| {
            *place.entry(text).or_insert_with(|| {
                texts.push(text);
                texts.len() - 1
            })
        };
        let texts_of: Vec<(usize, Option<usize>)> =
            (0..prompts.len()).map(|i| (index(prompts[i]), negatives.get(i).map(|text| index(text)))).collect();
        let texts_of =
            texts_of.into_iter().map(|(prompt, negative)| (prompt, negative.unwrap_or(texts.len()))).collect();
        let size = [h * factor, w * factor];
        Ok(GeneratePlan {
            sampler,
            texts,
            scale: found.guidance_scale,
            rescale: config.guidance_rescale,
            guided: found.guidance_scale > 1.0 && !embedded,
            request,
            images_per_prompt: config.num_images,
            shape,
            texts_of,
            conditions: model.with_sizes(
                MicroConditions { guidance: found.guidance_scale, ..MicroConditions::of_size(size) },
                [config.original_size, config.crops_coords_top_left, config.target_size],
            )?,
            initial_time: Time(model.process().at_level(1.0).0 + 1.0),
        })
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.texts_of.len() * self.images_per_prompt
    }

    /// Number of images at a time; a guided image takes two evaluations per step.
    pub fn auto_batch(&self, model: &Model) -> usize {
        let [_, height, width] = self.shape;
        (model.auto_batch(height * width) / if self.guided { 2 } else { 1 }).max(1)
    }

    /// The rows of some images.
    pub fn inputs(&self, images: Range<usize>) -> BatchIndices {
        let (mut texts, mut latent_of, mut text_of) = (vec![], vec![], vec![]);
        for (latent, image) in images.enumerate() {
            let (prompt, negative) = self.texts_of[image / self.images_per_prompt];
            let wanted = if self.guided { vec![prompt, negative] } else { vec![prompt] };
            for text in wanted {
                let text = text as i64;
                let known = texts.iter().position(|&other| other == text).unwrap_or_else(|| {
                    texts.push(text);
                    texts.len() - 1
                });
                latent_of.push(latent);
                text_of.push(known);
            }
        }
        BatchIndices { texts, latent_of, text_of }
    }

    /// The initial noise of some images, `[I, C, h, w]` float32.
    pub fn initial(&self, images: Range<usize>) -> Tensor {
        match &self.request.latents {
            Some(latents) => part(latents, &images),
            // Its stream of random numbers differs from those of scores, whose times are at most that of noise alone.
            None => self.drawn(images, self.initial_time, 0),
        }
    }

    /// The noise that a step adds to some images, `[I, C, h, w]` float32.
    pub fn noise(&self, images: Range<usize>, step: usize) -> Tensor {
        match &self.request.noise {
            Some(noise) => part(&noise.select(1, step as i64), &images),
            None => self.drawn(images, self.sampler.times()[step], 1),
        }
    }

    fn drawn(&self, images: Range<usize>, time: Time, repeat: u32) -> Tensor {
        let one = |image: usize| {
            let (prompt, number) = (image / self.images_per_prompt, image % self.images_per_prompt);
            noise::draw(self.request.seeds[prompt].wrapping_add(number as u64), time, repeat, self.shape)
        };
        Tensor::stack(&images.map(one).collect::<Vec<_>>(), 0)
    }
}

fn part(tensor: &Tensor, images: &Range<usize>) -> Tensor {
    tensor.narrow(0, images.start as i64, images.len() as i64)
}

fn checked(name: &str, axes: &str, given: Option<&Tensor>, expected: &[i64]) -> Result<()> {
    let Some(tensor) = given else { return Ok(()) };
    if tensor.size() != expected {
        let found = tensor.size();
        return Err(Error::Config(format!("{name} has the shape {found:?}; expected {axes} = {expected:?}")));
    }
    if tensor.isfinite().all().int64_value(&[]) == 0 {
        return Err(Error::Config(format!("{name} holds values that are not finite")));
    }
    Ok(())
}
