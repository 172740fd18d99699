//! A batch of items: gathered, drawn timesteps for, and sent through the network part by part.

use std::cell::RefCell;
use std::collections::HashSet;

use tch::{Kind, Tensor};

use super::Session;
use super::draw;
use super::group::Group;
use super::heads::HeadStatistics;
use super::item::Item;
use super::pass::{Graph, Outcome, Pass};
use crate::config::{Loss, Method, ScoreConfig, TrainTimes};
use crate::deltas::Patch;
use crate::score::{Scene, Unit};
use crate::{Error, Result};

/// Below this share of rows with a gradient, finding them first is cheaper than keeping a graph of all: a backward
/// pass costs about 1.14 forward passes, so `1 + 2.14 q < 2.14`.
const FEW: f64 = 0.53;

impl Session {
    /// One batch through the network, part by part, with the graph given or the cheapest.
    pub(super) fn pass(
        &mut self,
        indices: &[usize],
        share: Share,
        temperature: f64,
        graph: Option<Graph>,
    ) -> Result<Total> {
        self.trained.iter_mut().for_each(Tensor::zero_grad);
        let patch = tch::with_grad(|| {
            let base = |target| self.model.backbone().weight(target).shallow_clone();
            self.deltas.patch(base, self.model.kind() == Kind::Float)
        });
        let heads = RefCell::new(self.heads.clone());
        let (groups, parts) = if self.options.in_batch { (1, 1) } else { (share.of, self.options.accumulate) };
        let size = indices.len().div_ceil(parts).max(1);
        let mut total = Total::default();
        for (number, part) in indices.chunks(size).enumerate() {
            let sets: Vec<&[usize]> = if self.options.in_batch { vec![part] } else { part.chunks(1).collect() };
            let scale = self.scale / groups as f64;
            let at = Position { first: share.first + number * size, temperature, scale, graph };
            self.part(&sets, at, &patch, &heads, &mut total)?;
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
        if config.compares_to_empty() && self.options.loss != Loss::Diffusion {
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
            cache: None,
            watch: Some(&watch),
        };
        let batch = self.rows_at_a_time(&scene.latents);
        let pass = Pass {
            scene: &scene,
            options: &self.options,
            groups: &gathered.groups,
            first: at.first,
            temperature: at.temperature,
            scale: at.scale,
            batch,
            under_way: &under_way,
        };
        let outcome = pass.run(at.graph.unwrap_or_else(|| self.graph(batch)))?;
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
    pub(super) fn draw(&self, position: usize) -> Result<(Vec<i64>, Tensor)> {
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
        let without_graph =
            self.config.batch_size.unwrap_or_else(|| self.model.auto_batch(latents.size()[2..].iter().product()));
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
}

/// Which items of a batch are worked on here: those from position `first` on, of `of` items in all.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    pub first: usize,
    pub of: usize,
}

impl Share {
    /// All of a batch.
    pub fn whole(indices: &[usize]) -> Self {
        Share { first: 0, of: indices.len() }
    }
}

/// Where in a batch a part begins, what its scores are divided and its gradient is multiplied by, and the graph.
struct Position {
    first: usize,
    temperature: f64,
    scale: f64,
    graph: Option<Graph>,
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
pub(super) struct Total {
    pub loss: f64,
    pub active: f64,
    pub rows: usize,
    pub needed_rows: usize,
    pub backward_rows: usize,
    pub differences: Vec<f64>,
    pub scores: Vec<Vec<((usize, usize), f64)>>,
    pub reached: bool,
}

impl Total {
    fn add(&mut self, outcome: Outcome, groups: &[Group]) {
        self.loss += outcome.loss;
        self.active += outcome.active;
        self.rows += outcome.rows;
        self.needed_rows += outcome.needed_rows;
        self.backward_rows += outcome.backward_rows;
        self.differences.extend(outcome.differences);
        self.reached |= outcome.reached;
        for (group, scores) in groups.iter().zip(outcome.scores) {
            self.scores.push(group.comparison.pairs.iter().copied().zip(scores).collect());
        }
    }
}
