//! A batch of items: gathered, drawn timesteps for, and sent through the network part by part.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use tch::{Kind, Tensor};

use super::Session;
use super::draw;
use super::group::Group;
use super::heads::HeadStatistics;
use super::item::Item;
use super::pass::{Graph, Outcome, Pass};
use crate::config::{Loss, TrainTimes};
use crate::deltas::Patch;
use crate::score::{Scene, Unit};
use crate::torch::{caught, notes};
use crate::{Error, Result};

impl Session {
    /// One batch through the network, with the graph given or the cheapest that there is memory for.
    pub(super) fn pass(
        &mut self,
        indices: &[usize],
        share: Share,
        temperature: f64,
        graph: Option<Graph>,
    ) -> Result<Total> {
        loop {
            let tried = Cell::new(0);
            let why = match caught(|| self.attempt(indices, share, temperature, graph, &tried)) {
                Err(Error::OutOfMemory(why)) => why,
                done => return done,
            };
            self.model.make_room();
            self.memory = self.memory.less(tried.get()).ok_or_else(|| out_of_memory(&why))?;
            notes::leave(format!(
                "memory ran out in training; going on with {} evaluation(s) at a time, which changes no gradient but by \
                 rounding",
                self.memory.batch(tried.get())
            ));
        }
    }

    /// The same, part by part, with as much memory as there was before; `tried` becomes the most rows that were in it
    /// at a time.
    fn attempt(
        &mut self,
        indices: &[usize],
        share: Share,
        temperature: f64,
        graph: Option<Graph>,
        tried: &Cell<usize>,
    ) -> Result<Total> {
        // Also where memory ran out in the middle of something that has one.
        let _no_grad = tch::no_grad_guard();
        self.trained.iter_mut().for_each(Tensor::zero_grad);
        let patch = tch::with_grad(|| {
            let base = |target| self.model.backbone().weight(target).shallow_clone();
            self.deltas.patch(base, self.model.kind() == Kind::Float)
        })?;
        let (groups, scale) = {
            let groups = if self.options.in_batch { 1 } else { share.of };
            (groups, self.state.hold().scale.factor() / groups as f64)
        };
        let heads = RefCell::new(HeadStatistics::default());
        let mut total = Total::default();
        let mut first = share.first;
        for part in self.parts(indices)? {
            let at = Position { first, temperature, scale, graph };
            self.part(&part, at, &patch, &heads, tried, &mut total)?;
            first += part.len();
        }
        total.loss /= groups as f64;
        total.active /= groups as f64;
        total.heads = heads.into_inner();
        Ok(total)
    }

    /// A batch as sets of items, each a question of its own, in parts: those that were asked for, and such that no part
    /// has more rows than graphs are kept of, unless one set has.
    fn parts<'i>(&self, indices: &'i [usize]) -> Result<Vec<Vec<&'i [usize]>>> {
        if self.options.in_batch {
            return Ok(vec![vec![indices]]);
        }
        let most_items = indices.len().div_ceil(self.options.accumulate).max(1);
        let most_rows = self.memory.limit(self.rows_at_a_time()?);
        let mut parts: Vec<Vec<&[usize]>> = vec![];
        let mut rows = 0;
        for set in indices.chunks(1) {
            let more = self.rows_of(&self.group(set, [0, 0], 0)?);
            match parts.last_mut() {
                Some(part) if part.len() < most_items && rows + more <= most_rows => {
                    part.push(set);
                    rows += more;
                }
                _ => {
                    parts.push(vec![set]);
                    rows = more;
                }
            }
        }
        Ok(parts)
    }

    /// One part of a batch. Each of `sets` is a question of its own: an item, or several as one.
    fn part(
        &self,
        sets: &[&[usize]],
        at: Position,
        patch: &Patch,
        heads: &RefCell<HeadStatistics>,
        tried: &Cell<usize>,
        total: &mut Total,
    ) -> Result<()> {
        let mut gathered = self.gather(sets, at.first)?;
        let config = &self.config;
        let empty_text = gathered.content.len();
        if self.compares_to_none() {
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
            config,
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
        let wanted = self.rows_at_a_time()?;
        let batch = self.memory.batch(wanted);
        let rows = gathered.groups.iter().map(|group| self.rows_of(group)).sum();
        let graph = at
            .graph
            .unwrap_or_else(|| self.memory.graph(rows, wanted, self.state.hold().needed, self.options.recompute));
        let at_once = if matches!(graph, Graph::Kept | Graph::Blockwise) { rows } else { rows.min(batch) };
        tried.set(tried.get().max(at_once));
        let pass = Pass {
            scene: &scene,
            options: &self.options,
            groups: &gathered.groups,
            first: at.first,
            temperature: at.temperature,
            scale: at.scale,
            batch,
            recompute: self.memory.recompute(self.options.recompute),
            under_way: &under_way,
        };
        let outcome = pass.run(graph)?;
        total.add(outcome, &gathered.groups);
        Ok(())
    }

    /// Encoded items, side by side, with their timesteps and noise.
    fn gather(&self, sets: &[&[usize]], first: usize) -> Result<Gathered> {
        let k = self.options.timesteps_per_step;
        let mut gathered = Gathered::default();
        let (mut images, mut texts) = (0, 0);
        for (number, set) in sets.iter().enumerate() {
            let group = self.group(set, [images, texts], number * k)?;
            gathered.groups.push(group);
            for item in self.items(set)? {
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

    fn items(&self, set: &[usize]) -> Result<Vec<&Item>> {
        let missing = |index: &usize| {
            self.cache.get(*index).ok_or_else(|| Error::Internal(anyhow::anyhow!("item {index} was not encoded")))
        };
        set.iter().map(missing).collect()
    }

    /// Some items as one question, whose images, texts and timesteps begin there among those of a scene.
    fn group(&self, set: &[usize], at: [usize; 2], first_step: usize) -> Result<Group> {
        let steps = first_step..first_step + self.options.timesteps_per_step;
        let group = Group::new(&self.items(set)?, &self.options, at, steps);
        if group.comparison.pairs.is_empty() {
            return Err(Error::Dataset(format!(
                "item {} has nothing to compare: it needs a matching pair and, for this loss, a mismatch of the kind \
                 wanted",
                set[0]
            )));
        }
        Ok(group)
    }

    /// Evaluations that a question takes.
    fn rows_of(&self, group: &Group) -> usize {
        let pairs = &group.comparison.pairs;
        let images: HashSet<usize> = pairs.iter().map(|&(image, _)| image).collect();
        let without_text = if self.compares_to_none() { images.len() } else { 0 };
        group.steps.len() * (pairs.len() + without_text)
    }

    /// Whether predictions with a text are compared with those without.
    fn compares_to_none(&self) -> bool {
        self.config.compares_to_empty() && self.options.loss != Loss::Diffusion
    }

    /// Evaluations at a time: a graph takes about ten times the memory of an evaluation without.
    fn rows_at_a_time(&self) -> Result<usize> {
        let [_, height, width] = self.model.latent_shape(&self.config)?;
        let without_graph = self.config.batch_size.unwrap_or_else(|| self.model.auto_batch(height * width));
        let on_gpu = self.model.device().is_cuda() && self.config.batch_size.is_none();
        Ok(if on_gpu { without_graph.div_ceil(8) } else { without_graph })
    }
}

fn out_of_memory(why: &str) -> Error {
    Error::OutOfMemory(format!("{why} (in training, with one evaluation at a time and recompute)"))
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
    pub heads: HeadStatistics,
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
