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
mod optimizer;
mod pass;
mod shared;
mod start;
mod state;

use tch::{Kind, Tensor};

pub use batch::Share;
pub use draw::order;
pub use item::{Comparison, Relation};
pub use shared::Gradient;

use self::batch::Total;
use self::heads::HeadStatistics;
use self::item::{Cache, Item};
use self::optimizer::AdamW;
use self::pass::Graph;
use crate::config::{Loss, ScoreConfig, TrainConfig};
use crate::deltas::{Delta, Deltas, Target};
use crate::encode::image::Rgb;
use crate::score::{Model, learned_weights, select_sites};
use crate::{Error, Result};

/// What a difference between a match and a mismatch comes to at the start, in scores divided by the temperature, where
/// no temperature is given: the paper's margin.
const TYPICAL: f64 = 0.2;

/// Training under way.
pub struct Session {
    model: Model,
    config: ScoreConfig,
    options: TrainConfig,
    deltas: Deltas,
    /// The trained tensors of `deltas`, in order.
    trained: Vec<Tensor>,
    optimizer: AdamW,
    heads: HeadStatistics,
    cache: Cache,
    /// By site, whether the score pools it.
    chosen: Vec<bool>,
    learned: Vec<Option<Tensor>>,
    /// What scores are divided by, once it is known.
    temperature: Option<f64>,
    /// Running share of rows that had a gradient.
    needed: f64,
    /// What gradients are multiplied by on their way, so that half precision does not round them to zero.
    scale: f64,
}

/// What one step did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
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
    pub timesteps: Vec<Vec<i64>>,
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
        let chosen = select_sites(model.sites(), &config.layers)?;
        let learned = learned_weights(&model, &config, &chosen)?;
        let (deltas, trained) = start::deltas(&model, &config, &options, &chosen)?;
        let heads = HeadStatistics::default();
        let optimizer = AdamW::new(&trained, options.weight_decay);
        let temperature = options.temperature.or((options.loss == Loss::Diffusion).then_some(1.0));
        let scale = if model.kind() == Kind::Half { 65_536.0 } else { 1.0 };
        let model = model.with_deltas(None, None)?;
        Ok(Session {
            model,
            config,
            options,
            deltas,
            trained,
            optimizer,
            heads,
            cache: Cache::default(),
            chosen,
            learned,
            temperature,
            needed: 1.0,
            scale,
        })
    }

    pub fn options(&self) -> &TrainConfig {
        &self.options
    }

    pub fn config(&self) -> &ScoreConfig {
        &self.config
    }

    /// Number of steps done.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps
    }

    /// Number of trained numbers.
    pub fn parameters(&self) -> usize {
        self.trained.iter().map(Tensor::numel).sum()
    }

    /// Names of the trained sites, in forward order.
    pub fn layers(&self) -> Vec<String> {
        let trained = self.deltas.entries.iter().filter(|(_, delta)| delta.tensors()[0].1.requires_grad());
        let mut sites: Vec<usize> = trained.map(|(target, _)| target.site).collect();
        sites.dedup();
        sites.into_iter().map(|site| self.model.sites()[site].name()).collect()
    }

    /// A copy of the deltas as they are now, with the head weights learned so far.
    pub fn deltas(&self) -> Deltas {
        let mut copy = self.deltas.copy();
        copy.head_weights = self.heads.weights(&self.model).or(copy.head_weights);
        copy
    }

    /// Replaces the deltas by others of the same targets and shapes; the optimiser keeps its history.
    pub fn set_deltas(&mut self, deltas: &Deltas) -> Result<()> {
        start::copy_into(deltas, &mut self.deltas)?;
        self.heads = HeadStatistics::default();
        self.deltas.head_weights.clone_from(&deltas.head_weights);
        Ok(())
    }

    /// Whether the item of that index is encoded.
    pub fn has(&self, index: usize) -> bool {
        self.cache.get(index).is_some()
    }

    /// Encodes an item once and keeps it under an index of the caller's; the oldest are dropped where memory is short.
    pub fn add(&mut self, index: usize, images: &[Rgb], texts: &[&str], matches: Vec<Vec<bool>>) -> Result<()> {
        let fits = matches.len() == images.len() && matches.iter().all(|row| row.len() == texts.len());
        if images.is_empty() || texts.is_empty() || !fits {
            return Err(Error::Dataset(format!(
                "item {index} has {} images, {} texts and a match of another shape",
                images.len(),
                texts.len()
            )));
        }
        let encoded = self.model.encode_texts(texts, self.config.truncate)?;
        let item = Item {
            latents: self.model.encode_images(images, &self.config)?,
            vectors: encoded.vectors,
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
    pub fn calibrate(&mut self, indices: &[usize]) -> Result<f64> {
        if let Some(temperature) = self.temperature {
            return Ok(temperature);
        }
        let heads = self.heads.clone();
        let total = self.pass(indices, Share::whole(indices), 1.0, Some(Graph::None));
        self.heads = heads;
        let differences = total?.differences;
        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
        // Where nothing differs at all, any unit will do.
        let temperature = if mean > 0.0 { mean / TYPICAL } else { 1.0 };
        self.temperature = Some(temperature);
        Ok(temperature)
    }

    /// One step of the optimiser on the items of these indices. `total` is the number of steps that the learning
    /// rate's schedule is laid out for.
    ///
    /// # Errors
    /// `Training` if the loss or the gradient is no finite number; nothing has changed then.
    pub fn step(&mut self, indices: &[usize], total: u64) -> Result<Report> {
        loop {
            let outcome = self.backward(indices, Share::whole(indices))?;
            if let Some(report) = self.finish(&outcome, total)? {
                return Ok(report);
            }
        }
    }

    /// What the next step would do, without doing it, but for a temperature that is still open: it is found here, and
    /// stays.
    pub fn gradients(&mut self, indices: &[usize]) -> Result<Gradients> {
        let heads = self.heads.clone();
        let outcome = self.backpropagate(indices, Share::whole(indices));
        self.heads = heads;
        let outcome = outcome?;
        let gradient = |(name, trained): (String, &Tensor)| {
            let gradient = trained.grad();
            (name, if gradient.defined() { gradient / self.scale } else { trained.zeros_like() })
        };
        let gradients = self.trained_names().into_iter().zip(&self.trained).map(gradient).collect();
        let groups = if self.options.in_batch { 1 } else { indices.len() };
        let drawn = (0..groups).map(|position| self.draw(position)).collect::<Result<Vec<_>>>()?;
        let (timesteps, noise) = drawn.into_iter().unzip();
        Ok(Gradients { loss: outcome.loss, gradients, timesteps, noise, scores: outcome.scores })
    }

    /// Gradients of a share of one batch, on the leaves.
    fn backpropagate(&mut self, indices: &[usize], share: Share) -> Result<Total> {
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

    fn gradient_norm(&self) -> f64 {
        let squares = self.trained.iter().map(Tensor::grad).filter(Tensor::defined).map(|gradient| {
            let norm = gradient.norm().double_value(&[]);
            norm * norm
        });
        squares.sum::<f64>().sqrt() / self.scale
    }

    /// The trained tensors' names in a deltas file, in order.
    fn trained_names(&self) -> Vec<String> {
        let of = |(&target, delta): (&Target, &Delta)| {
            let path = self.deltas.architecture.path(target);
            let names = delta.tensors().into_iter().filter(|(_, tensor)| tensor.requires_grad());
            names.map(|(name, _)| format!("{path}.{name}")).collect::<Vec<_>>()
        };
        self.deltas.entries.iter().flat_map(of).collect()
    }
}
