//! Evaluations of the denoiser that share images, texts, noise and configuration.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::backprop;
use super::inputs::Inputs;
use super::layer::{fused_pooling, layer_score, local_weights, pooled_score};
use super::method::Coefficients;
use super::plan::Evaluation;
use crate::config::{Attribution, DenoisingError, Heads, ScoreConfig};
use crate::deltas::{AttentionLayer, Patch};
use crate::denoiser::{Batch, Capture, Captured, MicroConditions, PooledCapture, SavedStates, TextCache};
use crate::encode::Conditioning;
use crate::encode::text::Columns;
use crate::kernels::to_repeat;
use crate::model::Model;
use crate::noise::Time;
use crate::pooling::PooledAttention;
use crate::{Error, Result};

/// Told of every chosen layer while its maps are pooled, with the way to its head weights `[B, H]`.
pub type HeadObserver<'a> = &'a dyn Fn(usize, &dyn Fn() -> Tensor);

/// Encoded images and texts, with the noise and whatever else the evaluations of a request share.
pub struct Encoded {
    /// `[images, C, h, w]`, float32.
    pub latents: Tensor,
    /// `[steps, C, h, w]`, float32.
    pub noise: Tensor,
    pub times: Vec<Time>,
    /// The texts, and perhaps behind them what stands for no text.
    pub texts: Conditioning,
    /// By text, the columns of its own tokens.
    pub columns: Vec<Columns>,
    /// By layer, whether it counts.
    pub chosen: Vec<bool>,
    /// Index of the text that stands for no text; it is not attended to but predicted from.
    pub no_text: usize,
    /// Learned head weights by layer `[H]`, where `heads` is `learned`.
    pub learned: Vec<Option<Tensor>>,
    /// Keys and values of the texts, where they are not differentiated and there is room.
    pub cache: Option<Arc<TextCache>>,
    /// What the network is told of the images.
    pub conditions: MicroConditions,
}

/// Everything that the evaluations of one request, or of one training step, share.
pub struct ScoringContext<'a> {
    pub model: &'a Model,
    pub config: &'a ScoreConfig,
    pub patch: Option<&'a Patch>,
    pub encoded: &'a Encoded,
    pub observer: Option<HeadObserver<'a>>,
}

/// What evaluations give, by row; with a graph where the patch is trained.
pub struct EvaluationOutput {
    /// `[B]` float64, the mean over the chosen layers of their scores; none where no maps are needed.
    pub attention: Option<Tensor>,
    /// `[B]` float64, how far the prediction is from its target; none where it is not needed.
    pub error: Option<Tensor>,
    /// `[B]` float64, the mean over the latent of the squared error; beside `error`.
    pub squared: Option<Tensor>,
}

impl<'a> ScoringContext<'a> {
    /// With the model's own deltas, and nobody told of head weights.
    pub fn new(model: &'a Model, config: &'a ScoreConfig, encoded: &'a Encoded) -> Self {
        ScoringContext { model, config, patch: model.patch(), encoded, observer: None }
    }

    /// What the numbers of an evaluation count.
    pub fn coefficients(&self) -> Coefficients {
        Coefficients::new(self.config)
    }

    /// Runs some evaluations; all with text or all without.
    pub fn evaluate(&self, evaluations: &[Evaluation], prediction: bool) -> Result<EvaluationOutput> {
        let inputs = self.inputs(evaluations, prediction)?;
        let weights = self.head_weights(&inputs)?;
        match self.model.graphs().filter(|_| self.can_be_recorded(&inputs)) {
            Some(graphs) => self.recorded(graphs, &inputs, &weights),
            None => self.run(&inputs, &weights, self.encoded.cache.as_deref()),
        }
    }

    /// The same of inputs and head weights; keys and values are taken from `cache`, if there is one.
    pub(super) fn run(
        &self,
        inputs: &Inputs,
        weights: &[Option<Tensor>],
        cache: Option<&TextCache>,
    ) -> Result<EvaluationOutput> {
        let seen = self.capturing(inputs, weights, cache, |batch, capture| {
            self.model.denoiser().observe(batch, self.patch, capture)
        })?;
        // While a record is made, nothing may be read.
        if let Some(prediction) = seen.prediction.as_ref().filter(|_| self.model.graphs().is_none()) {
            inputs.compare_to_target(self.model, prediction);
        }
        Ok(self.rows(inputs, &seen))
    }

    /// The same without a graph, and what [`Self::backward`] needs to repeat it.
    pub fn evaluate_saving(
        &self,
        evaluations: &[Evaluation],
        prediction: bool,
    ) -> Result<(EvaluationOutput, SavedEvaluation)> {
        let inputs = self.inputs(evaluations, prediction)?;
        let weights = self.head_weights(&inputs)?;
        let (seen, saved) = self.capturing(&inputs, &weights, self.encoded.cache.as_deref(), |batch, capture| {
            to_repeat(|| self.model.denoiser().observe_saving(batch, self.patch, capture))
        })?;
        let rows = self.rows(&inputs, &seen);
        Ok((rows, SavedEvaluation { inputs, weights, seen, saved }))
    }

    /// Adds the gradient of `objective(rows)` to the leaves of the patch, block by block.
    pub fn backward(
        &self,
        kept: SavedEvaluation,
        objective: impl FnOnce(&EvaluationOutput) -> Option<Tensor>,
    ) -> Result<()> {
        let leaf = |tensor: &Tensor| tensor.detach().set_requires_grad(true);
        let seen = Captured {
            maps: kept.seen.maps.iter().map(|(layer, map)| (*layer, leaf(map))).collect(),
            prediction: kept.seen.prediction.as_ref().map(leaf),
        };
        let Some(objective) = objective(&self.rows(&kept.inputs, &seen)) else {
            return Ok(());
        };
        objective.backward();
        let gradient = Captured {
            maps: seen.maps.iter().map(|(layer, map)| (*layer, grad_of(map))).collect(),
            prediction: seen.prediction.as_ref().map(grad_of),
        };
        self.capturing(&kept.inputs, &kept.weights, self.encoded.cache.as_deref(), |batch, capture| {
            self.model.denoiser().backward(kept.saved, batch, self.patch, capture, &gradient)
        })
    }

    /// Calls `run` with the batch and with what is wanted of it.
    fn capturing<T>(
        &self,
        inputs: &Inputs,
        weights: &[Option<Tensor>],
        cache: Option<&TextCache>,
        run: impl FnOnce(&Batch, &Capture) -> Result<T>,
    ) -> Result<T> {
        let keep = |layer: usize, map: &Tensor| {
            if let Some(observer) = self.observer {
                observer(layer, &|| match &weights[layer] {
                    Some(weights) if self.config.heads == Heads::Attributed => weights.shallow_clone(),
                    _ => local_weights(map, inputs.columns(), self.config),
                });
            }
            inputs.formed.set(true);
            layer_score(map, inputs.columns(), self.config, weights[layer].as_ref())
        };
        let how = fused_pooling(inputs, self.config, weights.iter().any(Option::is_some));
        let keep_pooled = |layer: usize, pooled: &PooledAttention| {
            let m = self.encoded.texts.context.size()[1] as usize;
            pooled_score(pooled, inputs, m, self.config, weights[layer].as_ref())
        };
        let capture = Capture {
            // Who observes head weights wants to see the maps.
            pooled: how.filter(|_| self.observer.is_none()).map(|how| PooledCapture { how, keep: &keep_pooled }),
            prediction: inputs.target.is_some(),
            ..Capture::maps(&inputs.layers, self.config.map, &keep)
        };
        run(&inputs.batch(cache), &capture)
    }

    /// Head weights `[B, H]` by attribution, by layer.
    pub fn attribute(&self, evaluations: &[Evaluation]) -> Result<Vec<Option<Tensor>>> {
        let inputs = self.inputs(evaluations, false)?;
        if matches!(self.config.attribution, Attribution::Full | Attribution::Integrated) {
            return self.head_weights(&inputs);
        }
        let keep = |_: usize, map: &Tensor| local_weights(map, inputs.columns(), self.config);
        let capture = Capture::maps(&inputs.layers, self.config.map, &keep);
        let seen = self.model.denoiser().observe(&inputs.batch(self.encoded.cache.as_deref()), self.patch, &capture)?;
        let mut weights: Vec<Option<Tensor>> = self.encoded.chosen.iter().map(|_| None).collect();
        for (layer, found) in seen.maps {
            weights[layer] = Some(found);
        }
        Ok(weights)
    }

    /// Head weights that have to be known before the maps are pooled, by layer.
    pub(super) fn head_weights(&self, inputs: &Inputs) -> Result<Vec<Option<Tensor>>> {
        let none = || self.encoded.chosen.iter().map(|_| None).collect();
        let anything = inputs.layers.contains(&true);
        match (&self.config.heads, self.config.attribution) {
            (Heads::Learned, _) => {
                Ok(self.encoded.learned.iter().map(|weights| weights.as_ref().map(Tensor::shallow_clone)).collect())
            }
            (Heads::Attributed, Attribution::Full) if anything => backprop::full(self, inputs),
            (Heads::Attributed, Attribution::Integrated) if anything => backprop::integrated(self, inputs),
            _ => Ok(none()),
        }
    }

    pub(super) fn rows(&self, inputs: &Inputs, seen: &Captured) -> EvaluationOutput {
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
        EvaluationOutput {
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

impl EvaluationOutput {
    /// The same numbers without their graph.
    pub fn detached(&self) -> EvaluationOutput {
        let detached = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::detach);
        EvaluationOutput {
            attention: detached(&self.attention),
            error: detached(&self.error),
            squared: detached(&self.squared),
        }
    }
}

/// One evaluation without a graph, to be repeated with one.
pub struct SavedEvaluation {
    inputs: Inputs,
    weights: Vec<Option<Tensor>>,
    seen: Captured,
    saved: SavedStates,
}

/// Learned head weights of the chosen layers, from the model's deltas.
///
/// # Errors
/// `Config` if there are none.
pub fn learned_weights(model: &Model, config: &ScoreConfig, chosen: &[bool]) -> Result<Vec<Option<Tensor>>> {
    if config.heads != Heads::Learned {
        return Ok(chosen.iter().map(|_| None).collect());
    }
    let known = model.deltas().and_then(|deltas| deltas.head_weights.as_ref());
    let of_layer = |(layer, &chosen): (&AttentionLayer, &bool)| {
        if !chosen {
            return Ok(None);
        }
        let weights = known.and_then(|known| known.get(&layer.name)).ok_or_else(|| {
            Error::Config(format!(
                "heads is \"learned\", but no head weights of {} are loaded; load deltas that were trained with this \
                 layer, or use \"mean\" or \"attributed\"",
                layer.name
            ))
        })?;
        let weights: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
        Ok(Some(Tensor::from_slice(&weights).to_device(model.device())))
    };
    model.layers().iter().zip(chosen).map(of_layer).collect()
}
