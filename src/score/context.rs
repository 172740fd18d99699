//! Evaluations of the denoiser that share images, texts, noise and configuration.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::backprop;
use super::inputs::Inputs;
use super::layer::{exact, fused_pooling, head_scores, layer_score, local_weights, pooled_head_scores, pooled_score};
use super::method::Coefficients;
use super::plan::Evaluation;
use super::prior::TextPrior;
use crate::Result;
use crate::config::{Attribution, DenoisingError, Heads, Method, ScoreConfig};
use crate::deltas::Patch;
use crate::denoiser::{Batch, Capture, Captured, MicroConditions, PooledCapture, SavedStates, TextCache};
use crate::device::upload;
use crate::encode::Conditioning;
use crate::encode::text::Columns;
use crate::kernels::to_repeat;
use crate::model::Model;
use crate::noise::Time;
use crate::pooling::PooledAttention;

/// A callback that is called for every scored layer while its maps are pooled. It receives the layer's index and a
/// function that computes the layer's head weights `[B, H]`.
pub type HeadObserver<'a> = &'a dyn Fn(usize, &dyn Fn() -> Tensor);

/// Encoded images and texts, with the noise and everything else that the evaluations of a request share.
pub struct Encoded {
    /// float32 `[images, C, h, w]`.
    pub latents: Tensor,
    /// float32 `[steps, C, h, w]`.
    pub noise: Tensor,
    /// The times of the evaluations, `[steps]`.
    pub times: Vec<Time>,
    /// The texts, followed by the unconditional one if it is needed.
    pub texts: Conditioning,
    /// For each text, the columns of its content tokens.
    pub columns: Vec<Columns>,
    /// For each layer, whether it is scored.
    pub chosen: Vec<bool>,
    /// Index of the unconditional text. Its predictions are used; its attention maps are not.
    pub no_text: usize,
    /// Head weights of each layer: `[H]` if `heads` is `learned`, `[steps, H]` if `method` is `calibrated`.
    pub learned: Vec<Option<Tensor>>,
    /// The weight of the denoising term at each time, `[steps]`: 1 unless `method` is `calibrated`.
    pub denoising: Vec<f64>,
    /// Keys and values of the texts; `None` if they are differentiated or would take too much memory.
    pub cache: Option<Arc<TextCache>>,
    /// Sizes and guidance that some networks take as inputs.
    pub conditions: MicroConditions,
    /// What is subtracted for each text. Its null images follow the images in `latents`.
    pub prior: Option<TextPrior>,
}

impl Encoded {
    /// The number of images that were given.
    pub fn images(&self) -> usize {
        let nulls = self.prior.as_ref().map_or(0, |prior| prior.nulls.len());
        self.latents.size()[0] as usize - nulls
    }
}

/// Everything that the evaluations of one request, or of one training step, share.
pub struct ScoringContext<'a> {
    /// The model that is evaluated.
    pub model: &'a Model,
    /// The options of the score.
    pub config: &'a ScoreConfig,
    /// The deltas, as the network applies them.
    pub patch: Option<&'a Patch>,
    /// The encoded request.
    pub encoded: &'a Encoded,
    /// A callback for the head weights of the scored layers.
    pub observer: Option<HeadObserver<'a>>,
}

/// What a batch of `B` evaluations computes; it has a graph if the patch is trained.
pub struct EvaluationOutput {
    /// float64 `[B]`: the mean over the scored layers of their scores; `None` if no maps are needed.
    pub attention: Option<Tensor>,
    /// float64 `[B]`: the distance of the prediction from its target; `None` if no prediction is needed.
    pub error: Option<Tensor>,
    /// float64 `[B]`: the mean over the latent of the squared error; computed together with `error`.
    pub squared: Option<Tensor>,
}

impl<'a> ScoringContext<'a> {
    /// A context with the model's own deltas and no observer of head weights.
    pub fn new(model: &'a Model, config: &'a ScoreConfig, encoded: &'a Encoded) -> Self {
        ScoringContext { model, config, patch: model.patch(), encoded, observer: None }
    }

    /// The coefficients of attention and errors in the score.
    pub fn coefficients(&self) -> Coefficients {
        Coefficients::new(self.config, self.model.calibration())
    }

    /// The coefficients in the score of one step.
    pub fn coefficients_at(&self, step: usize) -> Coefficients {
        self.coefficients().weighed(self.encoded.denoising[step])
    }

    /// Runs some evaluations, which must be all with text or all without. `prediction` asks for the errors too.
    ///
    /// # Errors
    /// `OutOfMemory`; `Interrupted`.
    pub fn evaluate(&self, evaluations: &[Evaluation], prediction: bool) -> Result<EvaluationOutput> {
        let inputs = self.inputs(evaluations, prediction);
        let weights = self.head_weights(&inputs)?;
        match self.model.graphs().filter(|_| self.can_be_recorded(&inputs)) {
            Some(graphs) => self.recorded(graphs, &inputs, &weights),
            None => self.run(&inputs, &weights, self.encoded.cache.as_deref()),
        }
    }

    /// Runs evaluations from prepared inputs and head weights; takes keys and values from `cache` if there is one.
    pub(super) fn run(
        &self,
        inputs: &Inputs,
        weights: &[Option<Tensor>],
        cache: Option<&TextCache>,
    ) -> Result<EvaluationOutput> {
        let seen = self.capturing(inputs, weights, cache, |batch, capture| {
            self.model.denoiser().observe(batch, self.patch, capture)
        })?;
        // While a CUDA graph is recorded, no tensor may be read.
        if let Some(prediction) = seen.prediction.as_ref().filter(|_| self.model.graphs().is_none()) {
            inputs.compare_to_target(self.model, prediction);
        }
        Ok(self.rows(inputs, &seen))
    }

    /// Runs evaluations without a graph, and saves what [`Self::backward`] needs to repeat them.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn evaluate_saving(
        &self,
        evaluations: &[Evaluation],
        prediction: bool,
    ) -> Result<(EvaluationOutput, SavedEvaluation)> {
        let inputs = self.inputs(evaluations, prediction);
        let weights = self.head_weights(&inputs)?;
        let (seen, saved) = self.capturing(&inputs, &weights, self.encoded.cache.as_deref(), |batch, capture| {
            to_repeat(|| self.model.denoiser().observe_saving(batch, self.patch, capture))
        })?;
        let rows = self.rows(&inputs, &seen);
        Ok((rows, SavedEvaluation { inputs, weights, seen, saved }))
    }

    /// Adds the gradient of `objective(output)` to the leaves of the patch, block by block.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
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

    /// Calls `run` with the batch and with the capture that computes the scores of its layers.
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
            layer_score(&self.exact(map), inputs.columns(), self.config, weights[layer].as_ref())
        };
        let how = fused_pooling(inputs, self.config, weights.iter().any(Option::is_some));
        let keep_pooled = |layer: usize, pooled: &PooledAttention| {
            let m = self.encoded.texts.context.size()[1] as usize;
            pooled_score(pooled, inputs, m, self.config, weights[layer].as_ref())
        };
        let capture = Capture {
            // Head weights are computed from maps.
            pooled: how.filter(|_| self.observer.is_none()).map(|how| PooledCapture { how, keep: &keep_pooled }),
            prediction: inputs.target.is_some(),
            ..Capture::maps(&inputs.layers, self.config.map, &keep)
        };
        run(&inputs.batch(cache), &capture)
    }

    /// The pooled maps of each head `[B, H]`, float64, of the scored layers in forward order; and the errors `[B]`, if
    /// `prediction` asks for them.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub(super) fn by_head(
        &self,
        evaluations: &[Evaluation],
        prediction: bool,
    ) -> Result<(Vec<Tensor>, Option<Tensor>)> {
        let inputs = self.inputs(evaluations, prediction);
        let m = self.encoded.texts.context.size()[1] as usize;
        let keep = |_: usize, map: &Tensor| head_scores(&self.exact(map), inputs.columns(), self.config);
        let keep_pooled = |_: usize, pooled: &PooledAttention| pooled_head_scores(pooled, &inputs, m, self.config);
        let capture = Capture {
            pooled: fused_pooling(&inputs, self.config, true).map(|how| PooledCapture { how, keep: &keep_pooled }),
            prediction,
            ..Capture::maps(&inputs.layers, self.config.map, &keep)
        };
        let Captured { maps, prediction } =
            self.model.denoiser().observe(&inputs.batch(self.encoded.cache.as_deref()), self.patch, &capture)?;
        let error = self.rows(&inputs, &Captured { maps: vec![], prediction }).error;
        Ok((maps.into_iter().map(|(_, of_layer)| of_layer).collect(), error))
    }

    /// A map as it is scored, float64.
    pub(super) fn exact(&self, map: &Tensor) -> Tensor {
        exact(map, self.model, self.config)
    }

    /// Attributed head weights `[B, H]` of each scored layer.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn attribute(&self, evaluations: &[Evaluation]) -> Result<Vec<Option<Tensor>>> {
        let inputs = self.inputs(evaluations, false);
        if matches!(self.config.attribution, Attribution::Full | Attribution::Integrated) {
            return self.head_weights(&inputs);
        }
        let keep = |_: usize, map: &Tensor| local_weights(map, inputs.columns(), self.config);
        let capture = Capture::maps(&inputs.layers, self.config.map, &keep);
        let seen = self.model.denoiser().observe(&inputs.batch(self.encoded.cache.as_deref()), self.patch, &capture)?;
        let mut weights: Vec<Option<Tensor>> = self.encoded.chosen.iter().map(|_| None).collect();
        for (layer, of_layer) in seen.maps {
            weights[layer] = Some(of_layer);
        }
        Ok(weights)
    }

    /// The head weights of each layer that must be known before its map is pooled: learned or calibrated ones, or
    /// attributed ones that depend on the rest of the network.
    pub(super) fn head_weights(&self, inputs: &Inputs) -> Result<Vec<Option<Tensor>>> {
        let none = || self.encoded.chosen.iter().map(|_| None).collect();
        if self.config.method == Method::Calibrated {
            let steps: Vec<i64> = inputs.steps.iter().map(|&step| step as i64).collect();
            let steps = upload(&Tensor::from_slice(&steps), self.model.device());
            let of_layer = |weights: &Option<Tensor>| weights.as_ref().map(|weights| weights.index_select(0, &steps));
            return Ok(self.encoded.learned.iter().map(of_layer).collect());
        }
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

    /// Layer scores and prediction to the output of the batch.
    pub(super) fn rows(&self, inputs: &Inputs, seen: &Captured) -> EvaluationOutput {
        let layers: Vec<&Tensor> = seen.maps.iter().map(|(_, score)| score).collect();
        let errors = seen.prediction.as_ref().zip(inputs.target.as_ref()).map(|(prediction, target)| {
            // In float64: the score is a small difference of two large norms.
            let squares = (target.to_kind(Kind::Double) - prediction.to_kind(Kind::Double)).square();
            let sums = squares.sum_dim_intlist([1, 2, 3].as_slice(), false, None);
            let count = (squares.numel() / inputs.rows()) as f64;
            let squared = &sums / count;
            let error = match (self.config.denoising_error, &inputs.error_factors) {
                (DenoisingError::Norm, None) => sums.sqrt(),
                (DenoisingError::Norm, Some(factors)) => sums.sqrt() * factors,
                (DenoisingError::Mse, None) => squared.shallow_clone(),
                (DenoisingError::Mse, Some(factors)) => &squared * factors.square(),
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

/// A batch of evaluations that ran without a graph and can be repeated with one.
pub struct SavedEvaluation {
    inputs: Inputs,
    weights: Vec<Option<Tensor>>,
    seen: Captured,
    saved: SavedStates,
}
