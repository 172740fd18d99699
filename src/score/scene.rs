//! Evaluations of the UNet that share images, texts, noise and configuration.

use std::ops::Range;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::layer::{digest_score, digesting, layer_score, local_weights};
use super::plan::Unit;
use super::{Inputs, Model, backprop};
use crate::backbone::{Batch, Boundaries, Digested, Observation, TextCache, Wanted};
use crate::config::{Attribution, DenoisingError, Heads, ScoreConfig};
use crate::deltas::Patch;
use crate::nn::{Digest, to_repeat};
use crate::{Error, Result};

/// Somebody who wants to know the head weights of a site.
pub type Watch<'a> = &'a dyn Fn(usize, &dyn Fn() -> Tensor);

/// Everything that the evaluations of one request, or of one training step, share.
pub struct Scene<'a> {
    pub model: &'a Model,
    pub config: &'a ScoreConfig,
    pub patch: Option<&'a Patch>,
    /// `[images, C, h, w]`, float32.
    pub latents: Tensor,
    /// `[steps, C, h, w]`, float32.
    pub noise: Tensor,
    pub timesteps: Vec<i64>,
    /// `[texts, m, D]`
    pub texts: Tensor,
    /// By text, where its own tokens are.
    pub content: Vec<Range<usize>>,
    /// By site, whether it counts.
    pub chosen: Vec<bool>,
    /// Index of the text that stands for no text; it is not attended to but predicted from.
    pub empty_text: usize,
    /// Learned head weights by site `[H]`, where `heads` is `learned`.
    pub learned: Vec<Option<Tensor>>,
    /// Keys and values of the texts, where they are not differentiated and there is room.
    pub cache: Option<Arc<TextCache>>,
    /// Told of every chosen site while its maps are pooled, with the way to its head weights `[B, H]`.
    pub watch: Option<Watch<'a>>,
}

/// What evaluations give, by row; with a graph where the patch is trained.
pub struct Rows {
    /// `[B]` float64, the mean over the chosen layers of their scores; none without text or for `denoising`.
    pub attention: Option<Tensor>,
    /// `[B]` float64, how far the prediction is from its target; none for `attention`.
    pub error: Option<Tensor>,
    /// `[B]` float64, the mean over the latent of the squared error; beside `error`.
    pub squared: Option<Tensor>,
}

impl Scene<'_> {
    /// Runs some evaluations; all with text or all without.
    pub fn evaluate(&self, units: &[Unit], prediction: bool) -> Result<Rows> {
        let inputs = self.inputs(units, prediction)?;
        let weights = self.head_weights(&inputs)?;
        match self.model.graphs().filter(|_| self.can_be_recorded(&inputs)) {
            Some(graphs) => self.recorded(graphs, &inputs, &weights),
            None => self.run(&inputs, &weights, self.cache.as_deref()),
        }
    }

    /// The same of inputs and head weights; keys and values are taken from `cache`, if there is one.
    pub(super) fn run(&self, inputs: &Inputs, weights: &[Option<Tensor>], cache: Option<&TextCache>) -> Result<Rows> {
        let seen = self.wanting(inputs, weights, cache, |batch, wanted| {
            self.model.backbone().observe(batch, self.patch, wanted)
        })?;
        // While a record is made, nothing may be read.
        if let Some(prediction) = seen.prediction.as_ref().filter(|_| self.model.graphs().is_none()) {
            self.compare_to_targets(inputs, prediction);
        }
        Ok(self.rows(inputs, &seen))
    }

    /// The same without a graph, and what [`Self::backward`] needs to repeat it.
    pub fn evaluate_keeping(&self, units: &[Unit], prediction: bool) -> Result<(Rows, Kept)> {
        let inputs = self.inputs(units, prediction)?;
        let weights = self.head_weights(&inputs)?;
        let (seen, boundaries) = self.wanting(&inputs, &weights, self.cache.as_deref(), |batch, wanted| {
            to_repeat(|| self.model.backbone().observe_keeping(batch, self.patch, wanted))
        })?;
        let rows = self.rows(&inputs, &seen);
        Ok((rows, Kept { inputs, weights, seen, boundaries }))
    }

    /// Adds the gradient of `objective(rows)` to the leaves of the patch, block by block.
    pub fn backward(&self, kept: Kept, objective: impl FnOnce(&Rows) -> Option<Tensor>) -> Result<()> {
        let leaf = |tensor: &Tensor| tensor.detach().set_requires_grad(true);
        let seen = Observation {
            maps: kept.seen.maps.iter().map(|(site, map)| (*site, leaf(map))).collect(),
            prediction: kept.seen.prediction.as_ref().map(leaf),
        };
        let Some(objective) = objective(&self.rows(&kept.inputs, &seen)) else {
            return Ok(());
        };
        objective.backward();
        let gradient = Observation {
            maps: seen.maps.iter().map(|(site, map)| (*site, grad_of(map))).collect(),
            prediction: seen.prediction.as_ref().map(grad_of),
        };
        self.wanting(&kept.inputs, &kept.weights, self.cache.as_deref(), |batch, wanted| {
            self.model.backbone().backward(kept.boundaries, batch, self.patch, wanted, &gradient)
        })
    }

    /// Calls `run` with the batch and with what is wanted of it.
    fn wanting<T>(
        &self,
        inputs: &Inputs,
        weights: &[Option<Tensor>],
        cache: Option<&TextCache>,
        run: impl FnOnce(&Batch, &Wanted) -> Result<T>,
    ) -> Result<T> {
        let keep = |site: usize, map: &Tensor| {
            if let Some(watch) = self.watch {
                watch(site, &|| match &weights[site] {
                    Some(weights) if self.config.heads == Heads::Attributed => weights.shallow_clone(),
                    _ => local_weights(map, inputs.content(), self.config),
                });
            }
            inputs.formed.set(true);
            layer_score(map, inputs.content(), self.config, weights[site].as_ref())
        };
        let how = digesting(inputs, self.config, weights.iter().any(Option::is_some));
        let keep_digest = |site: usize, digest: &Digest| {
            let m = self.texts.size()[1] as usize;
            digest_score(digest, inputs, m, self.config, weights[site].as_ref())
        };
        let wanted = Wanted {
            sites: &inputs.sites,
            map: self.config.map,
            keep: &keep,
            // Who watches wants to see the maps.
            digest: how.filter(|_| self.watch.is_none()).map(|how| Digested { how, keep: &keep_digest }),
            alter: None,
            prediction: inputs.target.is_some(),
        };
        run(&inputs.batch(cache), &wanted)
    }

    /// Head weights `[B, H]` by attribution, by site.
    pub fn attribute(&self, units: &[Unit]) -> Result<Vec<Option<Tensor>>> {
        let inputs = self.inputs(units, false)?;
        if matches!(self.config.attribution, Attribution::Full | Attribution::Integrated) {
            return self.head_weights(&inputs);
        }
        let keep = |_: usize, map: &Tensor| local_weights(map, inputs.content(), self.config);
        let wanted = Wanted {
            sites: &inputs.sites,
            map: self.config.map,
            keep: &keep,
            digest: None,
            alter: None,
            prediction: false,
        };
        let seen = self.model.backbone().observe(&inputs.batch(self.cache.as_deref()), self.patch, &wanted)?;
        let mut weights: Vec<Option<Tensor>> = self.chosen.iter().map(|_| None).collect();
        for (site, found) in seen.maps {
            weights[site] = Some(found);
        }
        Ok(weights)
    }

    /// Head weights that have to be known before the maps are pooled, by site.
    pub(super) fn head_weights(&self, inputs: &Inputs) -> Result<Vec<Option<Tensor>>> {
        let none = || self.chosen.iter().map(|_| None).collect();
        let anything = inputs.sites.contains(&true);
        match (&self.config.heads, self.config.attribution) {
            (Heads::Learned, _) => {
                Ok(self.learned.iter().map(|weights| weights.as_ref().map(Tensor::shallow_clone)).collect())
            }
            (Heads::Attributed, Attribution::Full) if anything => backprop::full(self, inputs),
            (Heads::Attributed, Attribution::Integrated) if anything => backprop::integrated(self, inputs),
            _ => Ok(none()),
        }
    }

    pub(super) fn rows(&self, inputs: &Inputs, seen: &Observation) -> Rows {
        let layers: Vec<&Tensor> = seen.maps.iter().map(|(_, score)| score).collect();
        let errors = seen.prediction.as_ref().zip(inputs.target.as_ref()).map(|(prediction, target)| {
            // In float64: the score is a small difference of two large norms.
            let squares = (target.to_kind(Kind::Double) - prediction.to_kind(Kind::Double)).square();
            let sums = squares.sum_dim_intlist([1, 2, 3].as_slice(), false, None);
            let count = (squares.numel() / inputs.rows()) as f64;
            let squared = &sums / count;
            let error = match self.config.denoising_error {
                DenoisingError::Norm => sums.sqrt(),
                DenoisingError::Mse => squared.shallow_clone(),
            };
            (error, squared)
        });
        let (error, squared) = errors.unzip();
        Rows {
            attention: (!layers.is_empty()).then(|| Tensor::stack(&layers, 0).mean_dim(0, false, None)),
            error,
            squared,
        }
    }
}

fn grad_of(leaf: &Tensor) -> Tensor {
    let grad = leaf.grad();
    if grad.defined() { grad } else { leaf.zeros_like() }
}

impl Rows {
    /// The same numbers without their graph.
    pub fn detached(&self) -> Rows {
        let detached = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::detach);
        Rows { attention: detached(&self.attention), error: detached(&self.error), squared: detached(&self.squared) }
    }
}

/// One evaluation without a graph, to be repeated with one.
pub struct Kept {
    inputs: Inputs,
    weights: Vec<Option<Tensor>>,
    seen: Observation,
    boundaries: Boundaries,
}

/// Learned head weights of the chosen sites, from the model's deltas.
///
/// # Errors
/// `Config` if there are none.
pub fn learned_weights(model: &Model, config: &ScoreConfig, chosen: &[bool]) -> Result<Vec<Option<Tensor>>> {
    if config.heads != Heads::Learned {
        return Ok(chosen.iter().map(|_| None).collect());
    }
    let known = model.deltas().and_then(|deltas| deltas.head_weights.as_ref());
    let of_site = |(site, &chosen): (&crate::backbone::Site, &bool)| {
        if !chosen {
            return Ok(None);
        }
        let weights = known.and_then(|known| known.get(&site.name())).ok_or_else(|| {
            Error::Config(format!(
                "heads is \"learned\", but no head weights of {} are loaded; load deltas that were trained with this \
                 layer, or use \"mean\" or \"attributed\"",
                site.name()
            ))
        })?;
        let weights: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
        Ok(Some(Tensor::from_slice(&weights).to_device(model.device())))
    };
    model.sites().iter().zip(chosen).map(of_site).collect()
}
