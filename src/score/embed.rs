//! Appendix E: images and texts as vectors of one space, whose cosine says how well they match.
//!
//! The paper takes "the latent space features after the VAE" for an image and compares them with "text embeddings",
//! without saying how a text of `m` vectors comes into the space of latents. Here the fine-tuned network itself brings
//! it there: a text is the mean clean latent that the network expects of noise that hides any image,
//! `mean over ε of ẑ(√(1−ᾱ_t)·ε, t, τ(y))`. So training, which changes the network only, changes the vectors of texts.

use tch::{Kind, Tensor};

use super::batches::{Batches, Event};
use super::plan::Unit;
use super::{Model, Scene};
use crate::Result;
use crate::backbone::Wanted;
use crate::checkpoint::Prediction;
use crate::config::{Method, ScoreConfig};
use crate::encode::image::Image;
use crate::noise;
use crate::torch::upload;

/// The noise level that a text is read at. At 1 the network knows best that there is no image, but a predicted noise
/// says little of the latent there (1/√ᾱ is 15 in Stable Diffusion); on the pocket model 0.7 to 1 are equally good.
const LEVEL: f64 = 0.85;
/// Draws of noise that are averaged; eight times as many change accuracies by less than their interval.
const DRAWS: usize = 8;

impl Model {
    /// Images as unit vectors, float32 `[n, D]` on the model's device: the latents `z`, `D = C·h·w`.
    ///
    /// # Errors
    /// As [`Model::encode_images`].
    pub fn embed_images(&self, images: &[Image], config: &ScoreConfig) -> Result<Tensor> {
        Ok(unit(&self.encode_images(images, config)?))
    }

    /// Texts as unit vectors, float32 `[n, D]` on the model's device, for the cosine with [`Model::embed_images`]
    /// under the same `config`; eight evaluations of the network a text.
    ///
    /// # Errors
    /// As [`Model::encode_texts`]; `Numerical` if a vector is not finite.
    pub fn embed_texts(
        &self,
        texts: &[&str],
        config: &ScoreConfig,
        told: impl FnMut(Event) -> Result<()>,
    ) -> Result<Tensor> {
        let shape = self.latent_shape(config)?;
        let timestep = self.schedule().at_level(LEVEL);
        let draws = (0..DRAWS).map(|draw| noise::draw(config.seed, timestep, draw as u32, shape));
        let noise = upload(&Tensor::stack(&draws.collect::<Vec<_>>(), 0), self.device());
        let read = self.encode_texts(texts, config.truncate)?;
        let blind = ScoreConfig { method: Method::Denoising, ..config.clone() };
        let scene = Scene {
            model: self,
            config: &blind,
            patch: self.patch(),
            latents: noise.narrow(0, 0, 1).zeros_like(),
            timesteps: vec![timestep; DRAWS],
            content: read.tokens.into_iter().map(|tokens| tokens.content).collect(),
            cache: self.text_cache(&read.vectors),
            texts: read.vectors,
            chosen: vec![false; self.sites().len()],
            empty_text: texts.len(),
            learned: self.sites().iter().map(|_| None).collect(),
            watch: None,
            noise,
        };
        let units: Vec<Unit> =
            (0..texts.len()).flat_map(|text| (0..DRAWS).map(move |step| Unit { image: 0, text, step })).collect();
        let pixels = shape[1] * shape[2];
        let size = config.batch_size.unwrap_or_else(|| self.auto_batch(pixels));
        let mut sums = Tensor::zeros([texts.len() as i64, shape[0] * pixels], (Kind::Float, self.device()));
        Batches::new(self, size, pixels, units.len(), told).run(&units, |units| {
            let latents = scene.expected(units, timestep)?.flatten(1, -1);
            let rows: Vec<i64> = units.iter().map(|unit| unit.text as i64).collect();
            let rows = upload(&Tensor::from_slice(&rows), self.device());
            let _ = sums.index_add_(0, &rows, &latents);
            Ok(())
        })?;
        self.finite("the UNet, asked what a text looks like,", &sums)?;
        Ok(unit(&sums))
    }
}

impl Scene<'_> {
    /// The clean latents `ẑ` `[B, C, h, w]` that the network expects of noise alone, `x = √(1−ᾱ)·ε`.
    fn expected(&self, units: &[Unit], timestep: i64) -> Result<Tensor> {
        let inputs = self.inputs(units, false)?;
        let wanted = Wanted {
            sites: &inputs.sites,
            map: self.config.map,
            keep: &|_, map| map.shallow_clone(),
            digest: None,
            alter: None,
            prediction: true,
        };
        let seen = self.model.backbone().observe(&inputs.batch(self.cache.as_deref()), self.patch, &wanted)?;
        let predicted = seen.prediction.expect("it was wanted").to_kind(Kind::Float);
        let steps: Vec<i64> = units.iter().map(|unit| unit.step as i64).collect();
        let noise = self.noise.index_select(0, &upload(&Tensor::from_slice(&steps), self.model.device()));
        let (signal, sigma) = self.model.schedule().factors(timestep);
        Ok(match self.model.checkpoint().scheduler.prediction {
            Prediction::Epsilon => (noise - predicted) * (sigma / signal),
            Prediction::Velocity => (noise * signal - predicted) * sigma,
        })
    }
}

/// Each entry `[n, …]` as a vector of length 1, `[n, D]`.
fn unit(x: &Tensor) -> Tensor {
    let flat = x.to_kind(Kind::Float).flatten(1, -1);
    &flat / flat.norm_scalaropt_dim(2, [1].as_slice(), true).clamp_min(f64::from(f32::MIN_POSITIVE))
}
