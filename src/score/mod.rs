//! Stage 7: attention maps and predictions become a score. [`Model::score_pairs`] is Algorithm 2, [`Model::explain`]
//! decomposes a score into its contributions, [`Model::embed_images`] and [`Model::embed_texts`] are appendix E.

mod attribution;
mod backprop;
mod by_head;
mod context;
mod embed;
mod explain;
mod finite;
mod given;
mod grid;
mod inputs;
mod layer;
mod method;
mod observe;
mod pairs;
mod plan;
mod prepared;
mod prior;
mod recorded;
mod select;
mod weights;

use std::sync::Arc;

use tch::Tensor;

pub use by_head::HeadScores;
pub use context::{Encoded, EvaluationOutput, SavedEvaluation, ScoringContext};
pub use explain::{Explained, Maps};
pub use layer::{layer_score, layer_shares};
pub use method::Coefficients;
pub use observe::{Observation, ObserveRequest};
pub use plan::Evaluation;
pub use prepared::Prepared;
pub use prior::log_mean_exp;
pub use select::layers as select_layers;

use self::given::{calibrated_weights, denoising_weights, learned_weights};
use self::prior::TextPrior;
use crate::config::{Method, ScoreConfig, TokenSet};
use crate::denoiser::TextCache;
use crate::device::upload;
use crate::encode::Conditioning;
use crate::encode::image::Image;
use crate::encode::text::Tokens;
use crate::encode::tokenizer::Truncate;
use crate::model::is_finite;
pub use crate::model::{Calibration, Event, Model};
use crate::noise::Time;
use crate::runtime::check_interrupt;
use crate::{Error, Result};

/// What to score: images, texts, and the pairs of them.
pub struct Request<'a> {
    /// The images, each encoded once.
    pub images: &'a [Image],
    /// The texts, each encoded once.
    pub texts: &'a [&'a str],
    /// `(image, text)` indices; a pair may be listed twice.
    pub pairs: &'a [(usize, usize)],
    /// float32 `[steps, C, h, w]` that replaces the seeded noise.
    pub noise: Option<Tensor>,
}

impl Model {
    /// The score of every pair: the mean of [`Self::score_pairs`] over the times.
    ///
    /// # Errors
    /// As [`Self::score_pairs`].
    pub fn score(&self, request: &Request, config: &ScoreConfig) -> Result<Vec<f64>> {
        let by_time = self.score_pairs(request, config, |_| Ok(()))?;
        Ok(by_time.iter().map(|scores| scores.iter().sum::<f64>() / scores.len() as f64).collect())
    }

    /// Algorithm 2: the score of every pair at every time, `[pairs][steps]`; a pair's score is the mean over the steps.
    ///
    /// Images and texts are encoded once, and all pairs share the noise of a time. Up to floating-point rounding, a
    /// score depends neither on the batch size, nor on the order of the pairs, nor on the rest of the request. When
    /// memory runs out, the batch is halved and evaluated again. `on_progress` receives the number of evaluations done.
    ///
    /// # Errors
    /// `Config` if the configuration does not fit the model or the texts; `Image`; `Numerical` if a score is not
    /// finite; `OutOfMemory`; `Interrupted`.
    pub fn score_pairs(
        &self,
        request: &Request,
        config: &ScoreConfig,
        on_progress: impl FnMut(Event) -> Result<()>,
    ) -> Result<Vec<Vec<f64>>> {
        if request.pairs.is_empty() {
            check(self, request, config)?;
            return check_images(request.images).map(|()| vec![]);
        }
        let encoded = encode(self, request, config)?;
        let steps: Vec<usize> = (0..encoded.times.len()).collect();
        ScoringContext::new(self, config, &encoded).score(request.pairs, &steps, on_progress)
    }

    /// What texts score without an image, `[texts][steps]`: the prior that `config.prior` subtracts, unweighted.
    ///
    /// # Errors
    /// As [`Self::score_pairs`].
    pub fn blind(
        &self,
        texts: &[&str],
        config: &ScoreConfig,
        on_progress: impl FnMut(Event) -> Result<()>,
    ) -> Result<Vec<Vec<f64>>> {
        prior::blind(self, texts, config, on_progress)
    }

    /// The latents of the null images that [`Self::blind`] scores, float32 `[k, C, h, w]` on the model's device.
    ///
    /// # Errors
    /// As [`Self::latent_shape`].
    pub fn null_latents(&self, config: &ScoreConfig) -> Result<Tensor> {
        prior::null_latents(self, config)
    }

    /// The numbers that [`Self::score_pairs`] weighs: the pooled maps of every head of the scored layers and the denoising
    /// terms, of every pair at every time, and with `config.prior` those of every text without an image. `config.heads` is
    /// ignored.
    ///
    /// # Errors
    /// As [`Self::score_pairs`]; `Config` if there are no pairs.
    pub fn head_scores(
        &self,
        request: &Request,
        config: &ScoreConfig,
        on_progress: impl FnMut(Event) -> Result<()>,
    ) -> Result<HeadScores> {
        by_head::head_scores(self, request, config, on_progress)
    }

    /// Encodes the images and texts of a request; its pairs are ignored.
    ///
    /// # Errors
    /// As [`Self::score_pairs`].
    pub fn prepare(&self, request: &Request, config: &ScoreConfig) -> Result<Prepared> {
        Ok(Prepared::new(self.clone(), config.clone(), encode(self, request, config)?))
    }

    /// Decomposes the score of a request's only pair into its contributions. One more evaluation per time is run if the
    /// maps to show are of another kind than the scored ones.
    ///
    /// # Errors
    /// As [`Self::score_pairs`].
    pub fn explain(
        &self,
        request: &Request,
        maps: &Maps,
        config: &ScoreConfig,
        on_progress: impl FnMut(Event) -> Result<()>,
    ) -> Result<Explained> {
        explain::explain(self, request, maps, config, on_progress)
    }

    /// The head weights `w_h` of `config.attribution` for the request's first image and text: layer names and float64
    /// `[steps, H]`.
    ///
    /// # Errors
    /// As [`Self::score_pairs`].
    pub fn head_weights(&self, request: &Request, config: &ScoreConfig) -> Result<Vec<(String, Tensor)>> {
        weights::head_weights(self, request, config)
    }

    /// Adds noise to an image (Eq. 3), evaluates the denoiser once and returns the maps of the requested layers.
    ///
    /// # Errors
    /// As [`Self::score_pairs`].
    pub fn observe(&self, request: &ObserveRequest, config: &ScoreConfig) -> Result<Observation> {
        observe::observe(self, request, config)
    }

    /// Images as unit vectors, float32 `[n, D]` on the model's device: the latents `z`, `D = C·h·w`.
    ///
    /// # Errors
    /// As [`Self::encode_images`].
    pub fn embed_images(&self, images: &[Image], config: &ScoreConfig) -> Result<Tensor> {
        Ok(embed::normalized(&self.encode_images(images, config)?))
    }

    /// Texts as unit vectors, float32 `[n, D]` on the model's device, to be compared by cosine with
    /// [`Self::embed_images`] under the same `config`. Each text takes eight evaluations of the network.
    ///
    /// # Errors
    /// As [`Self::encode_texts`]; `Numerical` if a vector is not finite.
    pub fn embed_texts(
        &self,
        texts: &[&str],
        config: &ScoreConfig,
        on_progress: impl FnMut(Event) -> Result<()>,
    ) -> Result<Tensor> {
        embed::texts(self, texts, config, on_progress)
    }

    /// Checks a configuration against this model, except for learned head weights, which may be loaded later. Returns
    /// for each layer whether it is scored.
    ///
    /// # Errors
    /// `Config`, naming the option.
    pub fn check_config(&self, config: &ScoreConfig) -> Result<Vec<bool>> {
        self.times(config)?;
        self.latent_shape(config)?;
        self.conditions(config)?;
        let chosen = select::layers(self.layers(), &config.layers)?;
        select::check_heads(self.layers(), &chosen, &config.heads)?;
        if config.method == Method::Calibrated {
            given::calibration_of(self, config)?;
        }
        Ok(chosen)
    }

    /// For each layer whether it is scored, and the head weights that it is scored with: `[H]` if `heads` is `learned`,
    /// `[steps, H]` if `method` is `calibrated`.
    ///
    /// # Errors
    /// As [`Self::check_config`]; `Config` if a scored layer has no such weights.
    pub fn chosen_and_learned(&self, config: &ScoreConfig) -> Result<(Vec<bool>, Vec<Option<Tensor>>)> {
        let chosen = self.check_config(config)?;
        let learned = match config.method {
            Method::Calibrated => calibrated_weights(self, config, &chosen)?,
            _ => learned_weights(self, config, &chosen)?,
        };
        Ok((chosen, learned))
    }

    /// The weight of the denoising term at each of `steps` times, which are those of a configuration that was checked: 1
    /// unless `method` is `calibrated`.
    pub fn denoising_weights(&self, config: &ScoreConfig, steps: usize) -> Vec<f64> {
        denoising_weights(self, config, steps)
    }

    /// The same model with weights that the method `calibrated` scores with, or none.
    ///
    /// # Errors
    /// `Config` if they do not fit the model.
    pub fn with_calibration(&self, calibration: Option<Calibration>) -> Result<Model> {
        if let Some(calibration) = &calibration {
            let chosen = select::layers(self.layers(), &calibration.config.layers)?;
            calibration.check(self.layers(), &chosen, self.times(&calibration.config)?.len())?;
        }
        Ok(self.with_checked_calibration(calibration))
    }

    /// Refuses texts that `config` cannot score; returns the number of truncated ones.
    ///
    /// # Errors
    /// `Config`, naming the text.
    pub fn check_texts(&self, texts: &[&str], config: &ScoreConfig) -> Result<usize> {
        let truncate = if config.truncate == Truncate::Error { Truncate::Error } else { Truncate::Silent };
        let tokens = texts.iter().map(|text| self.tokenize(text, truncate)).collect::<Result<Vec<_>>>()?;
        check_words(texts, &tokens, config, Coefficients::new(config, self.calibration()))?;
        Ok(tokens.iter().filter(|tokens| tokens.truncated()).count())
    }
}

/// Encodes the images and texts of a request and collects everything else that its evaluations share.
fn encode(model: &Model, request: &Request, config: &ScoreConfig) -> Result<Encoded> {
    let Checked { times, noise, chosen, learned } = check(model, request, config)?;
    let prior = TextPrior::new(request, config);
    let mut latents = vec![];
    if !request.images.is_empty() {
        latents.push(model.encode_images(request.images, config)?);
    }
    if prior.is_some() {
        latents.push(model.null_latents(config)?);
    }
    let coefficients = Coefficients::new(config, model.calibration());
    let texts = match coefficients.needs_empty() {
        true => model.encode_texts_and_none(request.texts, config.truncate)?,
        false => model.encode_texts(request.texts, config.truncate)?,
    };
    check_words(request.texts, &texts.tokens, config, coefficients)?;
    Ok(Encoded {
        latents: Tensor::cat(&latents, 0),
        noise,
        denoising: model.denoising_weights(config, times.len()),
        times,
        columns: texts.tokens.iter().map(Tokens::own_columns).collect(),
        cache: text_cache(model, &texts.conditioning),
        texts: texts.conditioning,
        chosen,
        no_text: request.texts.len(),
        learned,
        conditions: model.conditions(config)?,
        prior,
    })
}

/// A cache for the keys and values of all texts, or `None` if they would take more than 512 MiB.
pub fn text_cache(model: &Model, texts: &Conditioning) -> Option<Arc<TextCache>> {
    let channels: i64 = model.layers().iter().map(|layer| layer.channels).sum();
    let size = texts.context.size();
    let bytes = (2 * size[0] * size[1] * channels) as usize * texts.context.kind().elt_size_in_bytes();
    (bytes <= CACHE_BYTES).then(|| Arc::new(TextCache::new(&texts.context)))
}

/// Checks a request before anything is encoded.
fn check(model: &Model, request: &Request, config: &ScoreConfig) -> Result<Checked> {
    let times = model.times(config)?;
    let noise = noise_or_given(model, config, request.noise.as_ref())?;
    let (chosen, learned) = model.chosen_and_learned(config)?;
    Ok(Checked { times, noise, chosen, learned })
}

/// Refuses images that cannot be decoded.
fn check_images(images: &[Image]) -> Result<()> {
    images.iter().try_for_each(|image| {
        check_interrupt()?;
        image.rgb().map(drop)
    })
}

/// The noise of a request on the model's device: the given noise, checked, or else the seeded noise.
fn noise_or_given(model: &Model, config: &ScoreConfig, given: Option<&Tensor>) -> Result<Tensor> {
    let Some(noise) = given else {
        return Ok(upload(&model.noise(config)?, model.device()));
    };
    let [c, h, w] = model.latent_shape(config)?;
    let expected = [model.times(config)?.len() as i64, c, h, w];
    if noise.size() != expected {
        return Err(Error::Config(format!(
            "noise has the shape {:?}; expected [steps, C, h, w] = {expected:?}",
            noise.size()
        )));
    }
    if !is_finite(noise) {
        return Err(Error::Config("noise holds values that are not finite".into()));
    }
    Ok(upload(noise, model.device()))
}

/// Refuses a text without content tokens if only content tokens are scored.
fn check_words(texts: &[&str], tokens: &[Tokens], config: &ScoreConfig, coefficients: Coefficients) -> Result<()> {
    let needs_content = config.tokens == TokenSet::Content && coefficients.needs_maps();
    match texts.iter().zip(tokens).find(|(_, tokens)| needs_content && tokens.is_empty()) {
        Some((text, _)) => Err(Error::Config(format!(
            "text {text:?} has no tokens of its own, and tokens is \"content\"; use tokens=\"all\" or a text with words"
        ))),
        None => Ok(()),
    }
}

/// The most bytes that cached keys and values may take: 60 texts of Stable Diffusion 2.1 in float32.
const CACHE_BYTES: usize = 512 << 20;

/// A checked configuration, resolved for a model.
struct Checked {
    times: Vec<Time>,
    noise: Tensor,
    chosen: Vec<bool>,
    learned: Vec<Option<Tensor>>,
}
