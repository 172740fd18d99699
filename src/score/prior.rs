//! The text prior: what a text scores without an image. It is subtracted so that texts of one image compare (Lin et al.
//! 2024, «Revisiting the Role of Language Priors in Vision-Language Models»).
//!
//! The image is replaced by null images: the noise alone (a latent of zeros), and latents that are noise themselves. The
//! prior is the log-mean-exp of their scores, time by time; of a calibrated score it is their mean, so that the prior is
//! linear in the weights, as the score is that they are fitted for. It depends on the text and the configuration alone, so the
//! model keeps it. Images of one colour would not do: behind group norms their latents are rounding errors, enlarged.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use tch::Tensor;
use tch::kind::FLOAT_CPU;

use super::{Encoded, Event, Request, ScoringContext, encode};
use crate::Result;
use crate::config::{Method, Prior, ScoreConfig};
use crate::device::upload;
use crate::model::Model;
use crate::noise::{self, Time};

/// Null images that are noise, beside the one of zeros.
const DRAWS: u32 = 2;

/// The first of their draws; those of timesteps count from 0.
const FIRST_DRAW: u32 = 1 << 31;

/// The prior of each text at some times, `[steps]`, by the text's index.
type Priors = HashMap<usize, Vec<f64>>;

/// What the priors of a request's texts are computed from.
pub struct TextPrior {
    /// The null images, as indices of the request's latents.
    pub nulls: Range<usize>,
    /// The name of each text in the model's cache; `None` if the noise was given.
    keys: Option<Vec<String>>,
}

impl TextPrior {
    /// The prior that a configuration asks for. The null images follow the images of the request.
    pub fn new(request: &Request, config: &ScoreConfig) -> Option<Self> {
        config.prior?;
        // Neither changes a prior.
        let config = ScoreConfig { batch_size: None, prior_weight: 0.0, ..config.clone() }.to_json();
        let keys = || request.texts.iter().map(|text| format!("{config}{text}")).collect();
        Some(TextPrior {
            nulls: request.images.len()..request.images.len() + 1 + DRAWS as usize,
            keys: request.noise.is_none().then(keys),
        })
    }
}

/// The latents of the null images, `[k, C, h, w]`.
///
/// # Errors
/// As [`Model::latent_shape`].
pub fn null_latents(model: &Model, config: &ScoreConfig) -> Result<Tensor> {
    let shape = model.latent_shape(config)?;
    let mut latents = vec![Tensor::zeros(shape, FLOAT_CPU)];
    latents.extend((0..DRAWS).map(|draw| noise::draw(config.seed, Time(0.0), FIRST_DRAW + draw, shape)));
    Ok(upload(&Tensor::stack(&latents, 0), model.device()))
}

/// See [`Model::blind`].
pub fn blind(
    model: &Model,
    texts: &[&str],
    config: &ScoreConfig,
    on_progress: impl FnMut(Event) -> Result<()>,
) -> Result<Vec<Vec<f64>>> {
    let config = ScoreConfig { prior: Some(Prior::Null), ..config.clone() };
    let encoded = encode(model, &Request { images: &[], texts, pairs: &[], noise: None }, &config)?;
    let steps: Vec<usize> = (0..encoded.times.len()).collect();
    let mut priors = ScoringContext::new(model, &config, &encoded).priors(0..texts.len(), &steps, on_progress)?;
    Ok((0..texts.len()).map(|text| priors.remove(&text).expect("it was asked for")).collect())
}

/// `log(1/k Σ exp(x))` of `k` numbers.
pub fn log_mean_exp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = values.iter().map(|value| (value - largest).exp()).sum();
    largest + (sum / values.len() as f64).ln()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl ScoringContext<'_> {
    /// The prior of each of these texts at some times. Without a prior in the configuration there is none.
    ///
    /// # Errors
    /// `Numerical` if a score is not finite; `OutOfMemory`; `Interrupted`.
    pub(super) fn priors(
        &self,
        texts: impl Iterator<Item = usize>,
        steps: &[usize],
        on_progress: impl FnMut(Event) -> Result<()>,
    ) -> Result<Priors> {
        let (mut priors, missing) = self.known_priors(texts, steps);
        let scores = self.without_prior(&missing, steps, on_progress)?;
        self.add_priors(&mut priors, &missing, &scores, steps);
        Ok(priors)
    }

    /// The priors that the model keeps, and the pairs of null images and texts that the others are computed from.
    pub(super) fn known_priors(
        &self,
        texts: impl Iterator<Item = usize>,
        steps: &[usize],
    ) -> (Priors, Vec<(usize, usize)>) {
        let (mut priors, mut missing) = (Priors::new(), vec![]);
        let Some(prior) = &self.encoded.prior else { return (priors, missing) };
        for text in texts.collect::<BTreeSet<_>>() {
            let kept = prior.keys.as_ref().and_then(|keys| self.model.kept().get(&keys[text], steps));
            match kept {
                Some(kept) => drop(priors.insert(text, kept)),
                None => missing.extend(prior.nulls.clone().map(|null| (null, text))),
            }
        }
        (priors, missing)
    }

    /// Adds the priors of the texts of null pairs, whose scores `[pairs][steps]` are given. The model keeps them.
    pub(super) fn add_priors(
        &self,
        priors: &mut Priors,
        null_pairs: &[(usize, usize)],
        scores: &[Vec<f64>],
        steps: &[usize],
    ) {
        let Encoded { prior: Some(prior), times, .. } = self.encoded else { return };
        let average = if self.config.method == Method::Calibrated { mean } else { log_mean_exp };
        for (of_text, scores) in null_pairs.chunks(prior.nulls.len()).zip(scores.chunks(prior.nulls.len())) {
            let text = of_text[0].1;
            let at = |step| average(&scores.iter().map(|scores: &Vec<f64>| scores[step]).collect::<Vec<_>>());
            let values: Vec<f64> = (0..steps.len()).map(at).collect();
            if let Some(keys) = &prior.keys {
                self.model.kept().set(&keys[text], times.len(), steps, &values);
            }
            priors.insert(text, values);
        }
    }
}
