//! Stage 8, Algorithm 1: training of deltas on `W_k` and `W_v` (Eq. 5) from a few labelled items by a margin loss (Eq.
//! 6).
//!
//! A step is a function of the deltas, the optimiser, the position and the seed. [`View::save`] writes them all, so
//! that an interrupted run can be resumed with identical results.

mod batch;
pub mod cache;
mod draw;
mod group;
mod heads;
mod item;
pub mod loss;
mod memory;
mod optimizer;
mod pass;
mod prior;
mod row_gradients;
mod scale;
mod shared;
mod start;
mod state;
mod temperature;
mod times;
mod totals;

use std::path::Path;
use std::sync::Arc;

use tch::{Kind, Tensor};

pub use batch::Share;
pub use draw::order;
pub use item::{ComparedPairs, Labels, Relation, relations, texts_of_others};
pub use memory::Memory;
pub use scale::LossScale;
pub use shared::Gradient;
pub use state::View;
pub use temperature::Temperature;

use self::batch::BatchRun;
use self::cache::Cache;
use self::heads::HeadStatistics;
use self::item::Item;
use self::optimizer::AdamW;
use self::state::State;
use self::totals::Totals;
use crate::config::{Loss, Method, ScoreConfig, TrainConfig};
use crate::deltas::Deltas;
use crate::encode::image::{Image, Rgb};
use crate::encode::tokenizer::Truncate;
use crate::model::Model;
use crate::noise::Time;
use crate::runtime::Lock;
use crate::{Error, Result};

/// Bytes of encoded items that are cached.
const CACHE_BYTES: usize = 4 << 30;

/// A training run: a model, its deltas, and the state of their optimisation.
pub struct Session {
    model: Model,
    /// The score that is trained, or for the loss `diffusion` the denoising error.
    config: ScoreConfig,
    options: TrainConfig,
    /// Handles of the tensors of `state.deltas` and `state.trained`, which can be used without its lock.
    deltas: Deltas,
    trained: Vec<Tensor>,
    cache: Cache<Item>,
    /// For each layer, whether it is scored.
    chosen: Vec<bool>,
    /// Head weights of each layer: `[H]` if `heads` is `learned`, `[steps, H]` if the score is calibrated.
    learned: Vec<Option<Tensor>>,
    /// The weight of the denoising term at each time of the configuration.
    denoising: Vec<f64>,
    /// The latents of the null images, `[k, C, h, w]`, if the score has a prior.
    nulls: Option<Tensor>,
    memory: Memory,
    state: Arc<Lock<State>>,
}

/// The outcome of one training step.
#[derive(Debug, Clone, serde::Serialize)]
pub struct StepReport {
    /// Number of steps done, including this one.
    pub step: u64,
    /// The mean loss over the items of the batch.
    pub loss: f64,
    /// The temperature: scores are divided by it before the loss.
    pub temperature: f64,
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// The Euclidean norm of the gradient of all trained tensors, before clipping.
    pub gradient_norm: f64,
    /// The fraction of the matching pairs whose loss was not zero.
    pub active: f64,
    /// Number of evaluations of the network.
    pub rows: usize,
    /// Number of evaluations that were backpropagated through.
    pub backward_rows: usize,
}

/// The gradients of a step, and the times and noise that they were computed with. With `in_batch` there is one group of
/// all items, otherwise one group per item.
pub struct Gradients {
    /// The mean loss over the groups.
    pub loss: f64,
    /// The gradient of each trained tensor, with the tensor's name in a deltas file; float32, of the tensor's shape.
    pub gradients: Vec<(String, Tensor)>,
    /// The drawn times, `[groups][k]`.
    pub times: Vec<Vec<Time>>,
    /// The drawn noise of each group, float32 `[k, C, h, w]`.
    pub noise: Vec<Tensor>,
    /// For each group, its `(image, text)` pairs and their scores.
    pub scores: Vec<Vec<((usize, usize), f64)>>,
}

impl Session {
    /// Prepares training of `model`, which starts from the model's deltas if it has any. A calibrated score is trained
    /// with the weights that the model has.
    ///
    /// # Errors
    /// `Config` if the options do not fit the model, its deltas or the score.
    pub fn new(model: Model, config: ScoreConfig, options: TrainConfig) -> Result<Self> {
        let (chosen, learned) = model.chosen_and_learned(&config)?;
        let denoising = model.denoising_weights(&config, model.times(&config)?.len());
        let times = times::resolved(&model, &config, &options)?;
        let start::Start { deltas, trained, reached } = start::deltas(&model, &config, &options, &chosen)?;
        let state = State {
            options: options.clone(),
            config: config.clone(),
            deltas: deltas.handles(),
            trained: trained.iter().map(Tensor::shallow_clone).collect(),
            optimizer: AdamW::new(&trained, reached, options.weight_decay),
            heads: HeadStatistics::default(),
            temperature: start::temperature(&options),
            times,
            needed: 1.0,
            scale: LossScale::new(model.kind() == Kind::Half),
        };
        let config = match options.loss {
            Loss::Diffusion => ScoreConfig { method: Method::Denoising, prior: None, ..config },
            _ => config,
        };
        let has_prior = config.prior.is_some() && config.prior_weight > 0.0;
        Ok(Session {
            nulls: has_prior.then(|| model.null_latents(&config)).transpose()?,
            // Deltas are trained under the weights that the model has, whatever deltas those were fitted to.
            model: model.with_deltas(None, None)?.with_checked_calibration(model.calibration().cloned()),
            config,
            options,
            deltas,
            trained,
            cache: Cache::new(CACHE_BYTES),
            chosen,
            learned,
            denoising,
            memory: Memory::default(),
            state: Arc::new(Lock::new(state)),
        })
    }

    /// A view of the state after the last finished step. It can be read while the next step runs.
    pub fn view(&self) -> View {
        View(self.state.clone())
    }

    /// The training options.
    pub fn options(&self) -> &TrainConfig {
        &self.options
    }

    /// The configuration of the score that is trained, or for the loss `diffusion` that of the denoising error.
    pub fn config(&self) -> &ScoreConfig {
        &self.config
    }

    /// Number of steps done.
    pub fn steps(&self) -> u64 {
        self.view().steps()
    }

    /// Number of trained parameters.
    pub fn parameters(&self) -> usize {
        self.trained.iter().map(Tensor::numel).sum()
    }

    /// Names of the trained layers, in forward order.
    pub fn layers(&self) -> Vec<String> {
        let trained = self.deltas.entries.iter().filter(|(_, delta)| delta.tensors()[0].1.requires_grad());
        let mut layers: Vec<usize> = trained.map(|(target, _)| target.layer).collect();
        layers.dedup();
        layers.into_iter().map(|layer| self.model.layers()[layer].name.clone()).collect()
    }

    /// A copy of the current deltas, with the head weights learned so far.
    pub fn deltas(&self) -> Deltas {
        self.view().deltas()
    }

    /// Replaces the deltas by others of the same targets and shapes; the optimiser keeps its moments.
    ///
    /// # Errors
    /// `Deltas` if targets or shapes differ.
    pub fn set_deltas(&mut self, deltas: &Deltas) -> Result<()> {
        self.state.hold().set_deltas(deltas)
    }

    /// Restores a state that [`View::save`] wrote, and returns its `extra`.
    ///
    /// # Errors
    /// `Deltas` if the file is damaged or not a training state; `Config` if it belongs to another model or other
    /// options. The session is unchanged then.
    pub fn load(&mut self, path: &Path) -> Result<String> {
        self.state.hold().load(path)
    }

    /// The indices of items that are not encoded, each once. None of the list is dropped before the next call, so that
    /// all are cached once these are added.
    pub fn ensure(&mut self, indices: &[usize]) -> Vec<usize> {
        self.cache.ensure(indices)
    }

    /// Encodes an item and caches it under the caller's index. When the cache is full, the oldest items are dropped.
    /// `matches` is `[images][texts]`.
    ///
    /// # Errors
    /// `Dataset` if `matches` has another shape, or there are no images or texts; `Image`; `Config` if a text cannot be
    /// scored; `Numerical` if an encoding is not finite.
    pub fn add(&mut self, index: usize, images: &[Image], texts: &[&str], matches: Vec<Vec<bool>>) -> Result<()> {
        let fits = matches.len() == images.len() && matches.iter().all(|row| row.len() == texts.len());
        if images.is_empty() || texts.is_empty() || !fits {
            return Err(Error::Dataset(format!(
                "item {index} has {} images, {} texts and a match of another shape",
                images.len(),
                texts.len()
            )));
        }
        self.model.check_texts(texts, &self.config)?;
        // The caller learns of truncated texts from `check_texts`, before training.
        let encoded = self.model.encode_texts(texts, Truncate::Silent)?;
        let mut image_hashes = vec![];
        let see = |image: &Rgb| image_hashes.push(item::hash_of(image));
        let item = Item {
            latents: self.model.encode_images_seeing(images, &self.config, see)?,
            image_hashes,
            conditioning: encoded.conditioning,
            tokens: encoded.tokens,
            texts: texts.iter().map(|&text| text.to_owned()).collect(),
            matches,
        };
        let bytes = item.bytes();
        self.cache.insert(index, item, bytes);
        Ok(())
    }

    /// One optimiser step on the items of these indices, which must be cached. `total` is the number of steps of the
    /// whole run, which the learning rate's schedule needs.
    ///
    /// # Errors
    /// `Training` if the loss or the gradient is not finite; `Config` if no trained layer influences the loss;
    /// `Dataset` if an item has nothing to compare; `OutOfMemory`; `Interrupted`. The state is unchanged then.
    pub fn step(&mut self, indices: &[usize], total: u64) -> Result<StepReport> {
        loop {
            let totals = self.backpropagate(indices, Share::whole(indices))?;
            if let Some(report) = self.finish(&totals, total)? {
                return Ok(report);
            }
        }
    }

    /// The gradients of the next step, without taking it. A temperature that is still open is computed and kept.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn gradients(&mut self, indices: &[usize]) -> Result<Gradients> {
        let totals = self.backpropagate(indices, Share::whole(indices))?;
        let (scale, names) = {
            let state = self.state.hold();
            (state.scale.factor(), state.trained_names())
        };
        let gradient = |(name, trained): (String, &Tensor)| {
            let gradient = trained.grad();
            (name, if gradient.defined() { gradient / scale } else { trained.zeros_like() })
        };
        let gradients = names.into_iter().zip(&self.trained).map(gradient).collect();
        let groups = if self.options.in_batch { 1 } else { indices.len() };
        let drawn = (0..groups).map(|position| self.draw(position, None)).collect::<Result<Vec<_>>>()?;
        let (times, noise) = drawn.into_iter().map(|drawn| (drawn.times, drawn.noise)).unzip();
        Ok(Gradients { loss: totals.loss, gradients, times, noise, scores: totals.scores })
    }

    /// Computes the gradients of a share of one batch, on the trained tensors.
    fn backpropagate(&mut self, indices: &[usize], share: Share) -> Result<Totals> {
        let temperature = self.calibrate(indices)?;
        let total = self.pass(indices, &BatchRun::step(share), &temperature)?;
        if !total.reached && total.backward_rows > 0 {
            return Err(Error::Config(
                "no trained layer has any influence on this loss; train layers before the last one that is scored, or \
                 its keys"
                    .into(),
            ));
        }
        Ok(total)
    }
}
