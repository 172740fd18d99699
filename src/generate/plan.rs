//! Whatever can be wrong with an order, and what it comes to on a model.

use std::collections::HashMap;
use std::ops::Range;

use tch::Tensor;

use super::{Order, Sampler};
use crate::backbone::CONSISTENCY_GUIDANCE;
use crate::checkpoint::SamplerKind;
use crate::config::GenerateConfig;
use crate::noise;
use crate::score::Model;
use crate::{Error, Result};

/// What options come to on a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resolved {
    pub steps: i64,
    pub guidance_scale: f64,
    pub height: usize,
    pub width: usize,
}

impl Resolved {
    /// Fills in the model's own values.
    ///
    /// # Errors
    /// `Config` if a side is no multiple of the VAE's factor, or `eta` is given to a sampler that has none.
    pub fn new(model: &Model, config: &GenerateConfig) -> Result<Self> {
        let consistency = model.checkpoint().scheduler.sampling.sampler == SamplerKind::LatentConsistency;
        let embedded = model.checkpoint().unet.guidance_dim.is_some();
        if consistency && config.eta > 0.0 {
            return Err(Error::Config(format!(
                "eta is {}; a latent consistency model's sampler has none, use eta=0",
                config.eta
            )));
        }
        let factor = model.checkpoint().vae.scale_factor() as usize;
        let side = |name: &str, given: Option<usize>| match given {
            None => Ok(model.resolution()),
            Some(side) if side.is_multiple_of(factor) => Ok(side),
            Some(side) => Err(Error::Config(format!(
                "{name} is {side}; this model needs a multiple of {factor}, its own is {}",
                model.resolution()
            ))),
        };
        Ok(Resolved {
            steps: config.steps.unwrap_or(if consistency { 4 } else { 50 }),
            guidance_scale: config.guidance_scale.unwrap_or(if embedded { CONSISTENCY_GUIDANCE } else { 7.5 }),
            height: side("height", config.height)?,
            width: side("width", config.width)?,
        })
    }
}

/// An order, checked.
pub struct Plan<'a> {
    pub sampler: Sampler<'a>,
    /// The distinct texts.
    pub texts: Vec<&'a str>,
    pub scale: f64,
    pub rescale: f64,
    /// Whether every latent is predicted with and without its text.
    pub guided: bool,
    order: &'a Order<'a>,
    images_per_prompt: usize,
    shape: [i64; 3],
    /// By prompt, the index of its text and of that to keep away from.
    texts_of: Vec<(usize, usize)>,
    train_timesteps: i64,
}

/// How some images make a batch.
pub struct Inputs {
    /// Indices of the distinct texts, in order of first use.
    pub texts: Vec<i64>,
    pub latent_of: Vec<usize>,
    pub text_of: Vec<usize>,
}

impl<'a> Plan<'a> {
    /// # Errors
    /// `Config`, naming what does not fit.
    pub fn new(model: &'a Model, order: &'a Order<'a>, config: &GenerateConfig) -> Result<Self> {
        let fail = |what: String| Err(Error::Config(what));
        let Order { prompts, negatives, seeds, latents, noise } = order;
        if seeds.len() != prompts.len() || !(negatives.is_empty() || negatives.len() == prompts.len()) {
            return fail(format!(
                "{} prompts, {} negative prompts and {} seeds were given; expected as many of each, or no negative ones",
                prompts.len(),
                negatives.len(),
                seeds.len()
            ));
        }
        let found = Resolved::new(model, config)?;
        let embedded = model.checkpoint().unet.guidance_dim.is_some();
        if embedded && !negatives.is_empty() {
            return fail("a latent consistency model takes no negative prompt: it was distilled without".into());
        }
        let factor = model.checkpoint().vae.scale_factor();
        let mut shape =
            [model.checkpoint().vae.latent_channels, found.height as i64 / factor, found.width as i64 / factor];
        // Given latents say the size, unless the caller does.
        if let Some([_, _, height, width]) = latents.as_ref().map(Tensor::size).as_deref()
            && (config.height, config.width) == (None, None)
        {
            (shape[1], shape[2]) = (*height, *width);
        }
        let sampler = Sampler::new(&model.checkpoint().scheduler, model.schedule(), found.steps, config.eta)?;
        let [c, h, w] = shape;
        if h < 1 || w < 1 {
            return fail(format!(
                "latents of {h} × {w} make no image; expected [images, C, h, w] with h and w above 0"
            ));
        }
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
        let texts_of = (0..prompts.len())
            .map(|i| (index(prompts[i]), index(negatives.get(i).copied().unwrap_or_default())))
            .collect();
        Ok(Plan {
            sampler,
            texts,
            scale: found.guidance_scale,
            rescale: config.guidance_rescale,
            guided: found.guidance_scale > 1.0 && !embedded,
            order,
            images_per_prompt: config.num_images,
            shape,
            texts_of,
            train_timesteps: model.schedule().train_timesteps(),
        })
    }

    /// How many there will be.
    pub fn images(&self) -> usize {
        self.texts_of.len() * self.images_per_prompt
    }

    /// Images at a time; each is evaluated twice where it is guided.
    pub fn auto_batch(&self, model: &Model) -> usize {
        let [_, height, width] = self.shape;
        (model.auto_batch(height * width) / if self.guided { 2 } else { 1 }).max(1)
    }

    /// The rows of some images.
    pub fn inputs(&self, images: Range<usize>) -> Inputs {
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
        Inputs { texts, latent_of, text_of }
    }

    /// The initial noise of some images, `[I, C, h, w]` float32.
    pub fn initial(&self, images: Range<usize>) -> Tensor {
        match &self.order.latents {
            Some(latents) => part(latents, &images),
            // A stream of its own: scores draw theirs for the timesteps of training alone.
            None => self.drawn(images, self.train_timesteps, 0),
        }
    }

    /// The noise that a step adds to some images, `[I, C, h, w]` float32.
    pub fn noise(&self, images: Range<usize>, step: usize) -> Tensor {
        match &self.order.noise {
            Some(noise) => part(&noise.select(1, step as i64), &images),
            None => self.drawn(images, self.sampler.timesteps()[step], 1),
        }
    }

    fn drawn(&self, images: Range<usize>, timestep: i64, repeat: u32) -> Tensor {
        let one = |image: usize| {
            let (prompt, number) = (image / self.images_per_prompt, image % self.images_per_prompt);
            noise::draw(self.order.seeds[prompt].wrapping_add(number as u64), timestep, repeat, self.shape)
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
