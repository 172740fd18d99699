//! Algorithm 1: a few labelled items become deltas on `W_k` and `W_v` (Eq. 5) by a margin loss (Eq. 6).
//!
//! A step is a function of the deltas, the optimiser, the position and the seed; [`Session::save`] keeps them all, so
//! that a run that was killed goes on as if nothing had happened.

mod draw;
mod heads;
mod item;
pub mod loss;
mod optimizer;
mod pass;
mod start;
mod state;

use std::cell::RefCell;
use std::collections::HashSet;

use tch::{Kind, Tensor};

pub use draw::order;
pub use item::{Comparison, Relation};

use self::heads::HeadStatistics;
use self::item::{Cache, Item};
use self::optimizer::AdamW;
use self::pass::{Graph, Group, Outcome, Pass};
use crate::config::{Loss, Method, ScoreConfig, TrainConfig, TrainTimes};
use crate::deltas::{Delta, Deltas, Patch, Target};
use crate::encode::image::Rgb;
use crate::score::{Model, Scene, Unit, learned_weights, select_sites};
use crate::{Error, Result};

/// Below this share of rows with a gradient, finding them first is cheaper than keeping a graph of all: a backward
/// pass costs about 1.14 forward passes, so `1 + 2.14 q < 2.14`.
const FEW: f64 = 0.53;

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
        let scale = if model.kind() == Kind::Half { 65_536.0 } else { 1.0 };
        let model = model.with_deltas(None, None);
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

    /// One step of the optimiser on the items of these indices. `total` is the number of steps that the learning
    /// rate's schedule is laid out for.
    ///
    /// # Errors
    /// `Training` if the loss or the gradient is no finite number; nothing has changed then.
    pub fn step(&mut self, indices: &[usize], total: u64) -> Result<Report> {
        let heads = self.heads.clone();
        let (outcome, norm) = loop {
            let outcome = self.backpropagate(indices)?;
            let norm = self.gradient_norm();
            if norm.is_finite() {
                break (outcome, norm);
            }
            self.heads = heads.clone();
            if self.scale <= 1.0 {
                return Err(Error::Training(format!(
                    "the gradient of step {} is no finite number (items {indices:?}); nothing was changed. Try a smaller \
                     learning_rate, gradient_clip, or dtype=\"float32\"",
                    self.steps()
                )));
            }
            // Too large for half precision: again, with less headroom.
            self.scale /= 2.0;
        };
        let rate = self.options.rate(self.steps(), total);
        let limit = self.options.gradient_clip.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
        self.optimizer.step(&mut self.trained, rate, limit / self.scale);
        self.needed = 0.9 * self.needed + 0.1 * outcome.needed_rows as f64 / outcome.rows.max(1) as f64;
        Ok(Report {
            step: self.steps(),
            loss: outcome.loss,
            learning_rate: rate,
            gradient_norm: norm,
            active: outcome.active,
            rows: outcome.rows,
            backward_rows: outcome.backward_rows,
        })
    }

    /// What the next step would do, without doing it.
    pub fn gradients(&mut self, indices: &[usize]) -> Result<Gradients> {
        let heads = self.heads.clone();
        let outcome = self.backpropagate(indices);
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

    /// Gradients of one batch, on the leaves.
    fn backpropagate(&mut self, indices: &[usize]) -> Result<Total> {
        self.trained.iter_mut().for_each(Tensor::zero_grad);
        let patch = tch::with_grad(|| {
            let base = |target| self.model.backbone().weight(target).shallow_clone();
            self.deltas.patch(base, self.model.kind() == Kind::Float)
        });
        let heads = RefCell::new(self.heads.clone());
        let (groups, parts) = if self.options.in_batch { (1, 1) } else { (indices.len(), self.options.accumulate) };
        let size = indices.len().div_ceil(parts).max(1);
        let mut total = Total::default();
        for (number, part) in indices.chunks(size).enumerate() {
            let sets: Vec<&[usize]> = if self.options.in_batch { vec![part] } else { part.chunks(1).collect() };
            let scale = self.scale / groups as f64;
            let at = Position { first: number * size, scale };
            self.part(&sets, at, &patch, &heads, &mut total)?;
        }
        if !total.reached && total.backward_rows > 0 {
            return Err(Error::Config(
                "no trained layer has any influence on this loss; train layers before the last one that is scored, or \
                 its keys"
                    .into(),
            ));
        }
        total.loss /= groups as f64;
        total.active /= groups as f64;
        self.heads = heads.into_inner();
        Ok(total)
    }

    /// One part of a batch. Each of `sets` is a question of its own: an item, or several as one.
    fn part(
        &self,
        sets: &[&[usize]],
        at: Position,
        patch: &Patch,
        heads: &RefCell<HeadStatistics>,
        total: &mut Total,
    ) -> Result<()> {
        let mut gathered = self.gather(sets, at.first)?;
        let config = match self.options.loss {
            Loss::Diffusion => ScoreConfig { method: Method::Denoising, ..self.config.clone() },
            _ => self.config.clone(),
        };
        let empty_text = gathered.content.len();
        if config.method != Method::Attention && self.options.loss != Loss::Diffusion {
            let empty = self.model.encode_texts(&[""], config.truncate)?;
            gathered.vectors.push(empty.vectors);
            gathered.content.push(empty.tokens[0].content.clone());
        }
        let matching: HashSet<Unit> = gathered.groups.iter().flat_map(Group::matching).collect();
        let under_way = RefCell::new(vec![]);
        let watch = |site: usize, weights: &dyn Fn() -> Tensor| {
            let units = under_way.borrow();
            // Empty while something is run a second time.
            if !units.is_empty() {
                heads.borrow_mut().see(site, &weights(), &units, &matching);
            }
        };
        let scene = Scene {
            model: &self.model,
            config: &config,
            patch: Some(patch),
            latents: Tensor::cat(&gathered.latents, 0),
            noise: Tensor::cat(&gathered.noise, 0).to_device(self.model.device()),
            timesteps: gathered.timesteps,
            texts: Tensor::cat(&gathered.vectors, 0),
            empty_text,
            content: gathered.content,
            chosen: self.chosen.clone(),
            learned: self.learned.iter().map(|weights| weights.as_ref().map(Tensor::shallow_clone)).collect(),
            watch: Some(&watch),
        };
        let batch = self.rows_at_a_time(&scene.latents);
        let pass = Pass {
            scene: &scene,
            options: &self.options,
            groups: &gathered.groups,
            scale: at.scale,
            batch,
            under_way: &under_way,
        };
        let outcome = pass.run(self.graph(batch))?;
        total.add(outcome, &gathered.groups);
        Ok(())
    }

    /// Encoded items, side by side, with their timesteps and noise.
    fn gather(&self, sets: &[&[usize]], first: usize) -> Result<Gathered> {
        let k = self.options.timesteps_per_step;
        let mut gathered = Gathered::default();
        let (mut images, mut texts) = (0, 0);
        for (number, set) in sets.iter().enumerate() {
            let missing = |index: &usize| {
                self.cache.get(*index).ok_or_else(|| Error::Internal(anyhow::anyhow!("item {index} was not encoded")))
            };
            let items: Vec<&Item> = set.iter().map(missing).collect::<Result<_>>()?;
            let group = Group::new(&items, &self.options, [images, texts], number * k..(number + 1) * k);
            if group.comparison.pairs.is_empty() {
                return Err(Error::Dataset(format!(
                    "item {} has nothing to compare: it needs a matching pair and, for this loss, a mismatch of the \
                     kind wanted",
                    set[0]
                )));
            }
            gathered.groups.push(group);
            for item in items {
                images += item.matches.len();
                texts += item.texts.len();
                gathered.latents.push(item.latents.shallow_clone());
                gathered.vectors.push(item.vectors.shallow_clone());
                gathered.content.extend(item.tokens.iter().map(|tokens| tokens.content.clone()));
            }
            let (timesteps, noise) = self.draw(first + number)?;
            gathered.timesteps.extend(timesteps);
            gathered.noise.push(noise);
        }
        Ok(gathered)
    }

    /// Timesteps and noise of the item at a position of the next step's batch.
    fn draw(&self, position: usize) -> Result<(Vec<i64>, Tensor)> {
        let choices = match self.options.timesteps {
            TrainTimes::Config => self.model.timesteps(&self.config)?,
            TrainTimes::Uniform => (0..self.model.schedule().train_timesteps()).collect(),
        };
        let shape = self.model.latent_shape(&self.config)?;
        let count = self.options.timesteps_per_step;
        Ok(draw::timesteps(self.options.seed, self.steps(), position, &choices, count, shape))
    }

    /// Evaluations at a time: a graph takes about ten times the memory of an evaluation without.
    fn rows_at_a_time(&self, latents: &Tensor) -> usize {
        let without_graph = self.config.batch_size.unwrap_or_else(|| self.model.auto_batch(latents));
        if self.model.device().is_cuda() && self.config.batch_size.is_none() {
            return without_graph.div_ceil(8);
        }
        without_graph
    }

    fn graph(&self, batch: usize) -> Graph {
        if self.options.recompute {
            return Graph::Blockwise;
        }
        // A row on its own is dropped with its graph if nothing needs it.
        if self.needed < FEW && batch > 1 { Graph::OnlyNeeded } else { Graph::Kept }
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

/// Where in a batch a part begins, and what its gradient is multiplied by.
struct Position {
    first: usize,
    scale: f64,
}

/// Several items' numbers, side by side.
#[derive(Default)]
struct Gathered {
    groups: Vec<Group>,
    latents: Vec<Tensor>,
    vectors: Vec<Tensor>,
    content: Vec<std::ops::Range<usize>>,
    timesteps: Vec<i64>,
    noise: Vec<Tensor>,
}

/// The parts of a batch together.
#[derive(Default)]
struct Total {
    loss: f64,
    active: f64,
    rows: usize,
    needed_rows: usize,
    backward_rows: usize,
    scores: Vec<Vec<((usize, usize), f64)>>,
    reached: bool,
}

impl Total {
    fn add(&mut self, outcome: Outcome, groups: &[Group]) {
        self.loss += outcome.loss;
        self.active += outcome.active;
        self.rows += outcome.rows;
        self.needed_rows += outcome.needed_rows;
        self.backward_rows += outcome.backward_rows;
        self.reached |= outcome.reached;
        for (group, scores) in groups.iter().zip(outcome.scores) {
            self.scores.push(group.comparison.pairs.iter().copied().zip(scores).collect());
        }
    }
}
