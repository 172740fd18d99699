//! Stage 7: per head, layer and timestep to a score. Algorithm 2 is [`Model::score_pairs`].

mod attribution;
mod layer;
mod model;
mod observe;
mod plan;
mod select;

use std::collections::HashMap;

use tch::{Kind, Tensor};

pub use model::{Model, Parameters, Texts};
pub use observe::{Look, Sight};

use self::plan::{Plan, Unit};
use crate::backbone::Wanted;
use crate::config::{Method, ScoreConfig, TokenSet};
use crate::encode::image::Rgb;
use crate::torch::to_vec;
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
    /// `progress` is told how many evaluations of the UNet are done, of how many.
    pub fn score_pairs(
        &self,
        request: &Request,
        config: &ScoreConfig,
        mut progress: impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<Vec<Vec<f64>>> {
        let timesteps = self.timesteps(config)?;
        let noise = self.noise_or_given(config, request.noise.as_ref())?;
        let chosen = select::sites(self.sites(), &config.layers)?;
        select::check_heads(self.sites(), &chosen, &config.heads)?;
        if request.pairs.is_empty() {
            return Ok(vec![]);
        }
        let latents = self.encode_images(request.images, config)?;
        let texts = self.texts_of(request, config)?;

        let plan = Plan::new(request.pairs, timesteps.len(), request.texts.len(), config.method);
        let scene =
            Scene { model: self, config, latents, noise, texts, timesteps, chosen, empty_text: plan.empty_text };
        let batch = config.batch_size.unwrap_or_else(|| self.auto_batch(&scene.latents));
        let mut values: HashMap<Unit, Value> = HashMap::with_capacity(plan.units.len());
        let total = plan.units.len();
        for units in plan.batches(batch) {
            values.extend(units.iter().copied().zip(scene.evaluate(units)?));
            progress(values.len(), total)?;
        }
        let score = |&(image, text): &(usize, usize), step: usize| {
            let unit = values[&Unit { image, text, step }];
            let help = match config.method {
                Method::Attention => 0.0,
                _ => values[&Unit { image, text: plan.empty_text, step }].error - unit.error,
            };
            match config.method {
                Method::Attention => unit.attention,
                Method::Denoising => help,
                Method::Combined => unit.attention + config.denoising_weight * help,
            }
        };
        let steps = scene.timesteps.len();
        Ok(request.pairs.iter().map(|pair| (0..steps).map(|step| score(pair, step)).collect()).collect())
    }

    /// Text vectors of the request, and of the empty text at the end where the method needs it.
    fn texts_of(&self, request: &Request, config: &ScoreConfig) -> Result<Texts> {
        let mut all = request.texts.to_vec();
        if config.method != Method::Attention {
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

    /// Evaluations at a time: on the CPU one of 64×64 latents already fills the cores, a GPU wants many more.
    fn auto_batch(&self, latents: &Tensor) -> usize {
        let size = latents.size();
        let pixels = (size[2] * size[3]) as usize;
        let budget = if self.device().is_cuda() { 64 * 4096 } else { 4096 };
        (budget / pixels).clamp(1, 256)
    }
}

/// What one evaluation of the UNet gives.
#[derive(Clone, Copy)]
struct Value {
    /// Mean over the chosen layers of their scores.
    attention: f64,
    /// `‖target − prediction‖₂`.
    error: f64,
}

/// Everything that the evaluations of one request share.
struct Scene<'a> {
    model: &'a Model,
    config: &'a ScoreConfig,
    /// `[images, C, h, w]`, float32.
    latents: Tensor,
    /// `[steps, C, h, w]`, float32.
    noise: Tensor,
    texts: Texts,
    timesteps: Vec<i64>,
    chosen: Vec<bool>,
    empty_text: usize,
}

impl Scene<'_> {
    /// Runs one batch through the UNet.
    fn evaluate(&self, units: &[Unit]) -> Result<Vec<Value>> {
        let (device, schedule) = (self.model.device(), self.model.schedule());
        // A batch is all conditional or all unconditional; the plan sees to that.
        let conditional = units[0].text != self.empty_text;
        let attention = conditional && self.config.method != Method::Denoising;
        let prediction = self.config.method != Method::Attention;

        let pick = |of: fn(&Unit) -> usize| {
            let index: Vec<i64> = units.iter().map(|unit| of(unit) as i64).collect();
            Tensor::from_slice(&index).to_device(device)
        };
        let times: Vec<i64> = units.iter().map(|unit| schedule.clamp(self.timesteps[unit.step])).collect();
        let clean = self.latents.index_select(0, &pick(|unit| unit.image));
        let noise = self.noise.index_select(0, &pick(|unit| unit.step));
        let text = self.texts.vectors.index_select(0, &pick(|unit| unit.text));
        let each = |f: &dyn Fn(usize) -> Tensor| Tensor::stack(&(0..units.len()).map(f).collect::<Vec<_>>(), 0);
        let noised = each(&|b| schedule.add_noise(&clean.get(b as i64), &noise.get(b as i64), times[b]));

        let content: Vec<_> = units.iter().map(|unit| self.texts.tokens[unit.text].content.clone()).collect();
        let none = vec![false; self.chosen.len()];
        let wanted = Wanted {
            sites: if attention { &self.chosen } else { &none },
            map: self.config.map,
            keep: &|_, map| layer::layer_score(&map, &content, self.config),
            prediction,
        };
        let seen = self.model.backbone().observe(
            &noised.to_kind(self.model.kind()),
            &Tensor::from_slice(&times).to_device(device),
            &text,
            &wanted,
        )?;

        let mut values = vec![Value { attention: 0.0, error: 0.0 }; units.len()];
        let layers = seen.maps.len() as f64;
        for (_, scores) in &seen.maps {
            for (value, score) in values.iter_mut().zip(to_vec(scores)) {
                value.attention += f64::from(score) / layers;
            }
        }
        if let Some(prediction) = &seen.prediction {
            let target = each(&|b| self.model.target(&clean.get(b as i64), &noise.get(b as i64), times[b]));
            // In float64: the score is a small difference of two large norms.
            let squares = (target.to_kind(Kind::Double) - prediction.to_kind(Kind::Double)).square();
            let norms = squares.sum_dim_intlist([1, 2, 3].as_slice(), false, None).sqrt();
            for (b, value) in values.iter_mut().enumerate() {
                value.error = norms.double_value(&[b as i64]);
            }
        }
        Ok(values)
    }
}
