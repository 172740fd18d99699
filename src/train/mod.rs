//! Algorithm 1: a few labelled items become deltas on `W_k` and `W_v` (Eq. 5) by a margin loss (Eq. 6).
//!
//! A step is a function of the deltas, the optimiser, the position and the seed; [`Session::save`] keeps them all, so
//! that a run that was killed goes on as if nothing had happened.

mod batch;
mod draw;
mod group;
mod heads;
mod item;
pub mod loss;
mod memory;
mod optimizer;
mod pass;
mod scale;
mod shared;
mod start;
mod state;
mod totals;

use std::path::Path;
use std::sync::Arc;

use tch::{Kind, Tensor};

pub use batch::Share;
pub use draw::order;
pub use item::{Comparison, Labels, Relation, relations};
pub use memory::Memory;
pub use scale::LossScale;
pub use shared::Gradient;
pub use state::View;

use self::heads::HeadStatistics;
use self::item::{Cache, Item};
use self::optimizer::AdamW;
use self::pass::GradientMode;
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

/// What a difference between a match and a mismatch comes to at the start, in scores divided by the temperature, where
/// no temperature is given: the paper's margin.
const TYPICAL: f64 = 0.2;

/// Training under way.
pub struct Session {
    model: Model,
    /// What is trained: the score, or for the loss `diffusion` the denoising error.
    config: ScoreConfig,
    options: TrainConfig,
    /// Those of `state`: other handles of the same leaves.
    deltas: Deltas,
    trained: Vec<Tensor>,
    cache: Cache,
    /// By layer, whether the score pools it.
    chosen: Vec<bool>,
    learned: Vec<Option<Tensor>>,
    memory: Memory,
    state: Arc<Lock<State>>,
}

/// What one step did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    pub loss: f64,
    /// What scores were divided by.
    pub temperature: f64,
    pub learning_rate: f64,
    /// Of all deltas, before it was limited.
    pub gradient_norm: f64,
    /// Share of the matching pairs whose loss was not zero.
    pub active: f64,
    /// Evaluations of the network.
    pub rows: usize,
    /// Evaluations that were backpropagated through.
    pub backward_rows: usize,
}

/// Gradients, and what they were computed at.
pub struct Gradients {
    pub loss: f64,
    /// By name in a deltas file.
    pub gradients: Vec<(String, Tensor)>,
    /// `[items][k]`; one row for all items where negatives are drawn in the batch.
    pub times: Vec<Vec<Time>>,
    /// `[k, C, h, w]` by item.
    pub noise: Vec<Tensor>,
    /// By item (or for the batch), pairs and their scores.
    pub scores: Vec<Vec<((usize, usize), f64)>>,
}

impl Session {
    /// Prepares training of `model`; it starts from the deltas that the model has, if any.
    ///
    /// # Errors
    /// `Config` if the options do not fit the model, its deltas or the score.
    pub fn new(model: Model, config: ScoreConfig, options: TrainConfig) -> Result<Self> {
        let (chosen, learned) = model.chosen_and_learned(&config)?;
        let start::Start { deltas, trained, reached } = start::deltas(&model, &config, &options, &chosen)?;
        let state = State {
            options: options.clone(),
            config: config.clone(),
            deltas: deltas.handles(),
            trained: trained.iter().map(Tensor::shallow_clone).collect(),
            optimizer: AdamW::new(&trained, reached, options.weight_decay),
            heads: HeadStatistics::default(),
            temperature: options.temperature.or((options.loss == Loss::Diffusion).then_some(1.0)),
            needed: 1.0,
            scale: LossScale::new(model.kind() == Kind::Half),
        };
        let config = match options.loss {
            Loss::Diffusion => ScoreConfig { method: Method::Denoising, ..config },
            _ => config,
        };
        Ok(Session {
            model: model.with_deltas(None, None)?,
            config,
            options,
            deltas,
            trained,
            cache: Cache::default(),
            chosen,
            learned,
            memory: Memory::default(),
            state: Arc::new(Lock::new(state)),
        })
    }

    /// What others may see of it while it is at work.
    pub fn view(&self) -> View {
        View(self.state.clone())
    }

    pub fn options(&self) -> &TrainConfig {
        &self.options
    }

    /// What is trained: the score, or for the loss `diffusion` the denoising error.
    pub fn config(&self) -> &ScoreConfig {
        &self.config
    }

    /// Number of steps done.
    pub fn steps(&self) -> u64 {
        self.view().steps()
    }

    /// Number of trained numbers.
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

    /// A copy of the deltas as they are now, with the head weights learned so far.
    pub fn deltas(&self) -> Deltas {
        self.view().deltas()
    }

    /// Replaces the deltas by others of the same targets and shapes; the optimiser keeps its history.
    pub fn set_deltas(&mut self, deltas: &Deltas) -> Result<()> {
        self.state.hold().set_deltas(deltas)
    }

    /// Goes back to a session that was saved, and gives back its `extra`.
    ///
    /// # Errors
    /// `Deltas` if the file is damaged or something else; `Config` if it is of a session with other options. The
    /// session is as it was then.
    pub fn load(&mut self, path: &Path) -> Result<String> {
        self.state.hold().load(path)
    }

    /// Whether the item of that index is encoded.
    pub fn has(&self, index: usize) -> bool {
        self.cache.get(index).is_some()
    }

    /// Encodes an item once and keeps it under an index of the caller's; the oldest are dropped where memory is short.
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
        // Of those that are cut, `check_texts` has told the caller.
        let encoded = self.model.encode_texts(texts, Truncate::Silent)?;
        let mut pictures = vec![];
        let see = |picture: &Rgb| pictures.push(item::digest(picture));
        let item = Item {
            latents: self.model.encode_images_seeing(images, &self.config, see)?,
            pictures,
            conditioning: encoded.conditioning,
            tokens: encoded.tokens,
            texts: texts.iter().map(|&text| text.to_owned()).collect(),
            matches,
        };
        self.cache.insert(index, item);
        Ok(())
    }

    /// What scores are divided by. Where the options leave it open it is found here, once, such that the difference
    /// between a match and a mismatch of these items comes to 0.2 on average: scores of different maps and poolings
    /// move by thousandths or by tens, and a margin means something only in a unit of their own.
    ///
    /// # Errors
    /// `Training` if a score is no finite number.
    pub fn calibrate(&mut self, indices: &[usize]) -> Result<f64> {
        let known = self.state.hold().temperature;
        if let Some(temperature) = known {
            return Ok(temperature);
        }
        let differences = self.pass(indices, Share::whole(indices), 1.0, Some(GradientMode::None))?.differences;
        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
        // Where nothing differs at all, any unit will do.
        let temperature = if mean > 0.0 { mean / TYPICAL } else { 1.0 };
        self.state.hold().temperature = Some(temperature);
        Ok(temperature)
    }

    /// One step of the optimiser on the items of these indices. `total` is the number of steps that the learning
    /// rate's schedule is laid out for.
    ///
    /// # Errors
    /// `Training` if the loss or the gradient is no finite number; nothing has changed then.
    pub fn step(&mut self, indices: &[usize], total: u64) -> Result<StepReport> {
        loop {
            let totals = self.backpropagate(indices, Share::whole(indices))?;
            if let Some(report) = self.finish(&totals, total)? {
                return Ok(report);
            }
        }
    }

    /// What the next step would do, without doing it, but for a temperature that is still open: it is found here, and
    /// stays.
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
        let drawn = (0..groups).map(|position| self.draw(position)).collect::<Result<Vec<_>>>()?;
        let (times, noise) = drawn.into_iter().unzip();
        Ok(Gradients { loss: totals.loss, gradients, times, noise, scores: totals.scores })
    }

    /// Gradients of a share of one batch, on the leaves.
    fn backpropagate(&mut self, indices: &[usize], share: Share) -> Result<Totals> {
        let temperature = self.calibrate(indices)?;
        let total = self.pass(indices, share, temperature, None)?;
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
