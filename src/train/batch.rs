//! A batch of items: gathers their encodings, draws times and noise, and runs the passes of its parts.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use tch::{Kind, Tensor};

use super::Session;
use super::draw;
use super::group::ItemGroup;
use super::heads::HeadStatistics;
use super::item::Item;
use super::pass::{GradientMode, TrainingPass};
use super::totals::Totals;
use crate::config::{Loss, TrainTimes};
use crate::deltas::Patch;
use crate::encode::Conditioning;
use crate::encode::text::{Columns, Tokens};
use crate::noise::Time;
use crate::runtime::{caught, warnings};
use crate::score::{Coefficients, Encoded, Evaluation, ScoringContext};
use crate::{Error, Result};

impl Session {
    /// Runs one batch, with the given way to compute gradients or the cheapest one that memory allows. When memory runs
    /// out, it runs the batch again with less of it in memory.
    pub(super) fn pass(
        &mut self,
        indices: &[usize],
        share: Share,
        temperature: f64,
        graph: Option<GradientMode>,
    ) -> Result<Totals> {
        loop {
            let tried = Cell::new(0);
            let why = match caught(|| self.attempt(indices, share, temperature, graph, &tried)) {
                Err(Error::OutOfMemory(why)) => why,
                done => return done,
            };
            self.model.make_room();
            self.memory = self.memory.less(tried.get()).ok_or_else(|| out_of_memory(&why))?;
            warnings::push(format!(
                "memory ran out in training; going on with {} evaluation(s) at a time, which changes no gradient but by \
                 rounding",
                self.memory.batch(tried.get())
            ));
        }
    }

    /// Runs one batch, part by part, within the current memory limits. `tried` becomes the largest number of rows that
    /// were in memory at a time.
    fn attempt(
        &mut self,
        indices: &[usize],
        share: Share,
        temperature: f64,
        graph: Option<GradientMode>,
        tried: &Cell<usize>,
    ) -> Result<Totals> {
        // Running out of memory may have left a section with a graph half-way.
        let _no_grad = tch::no_grad_guard();
        self.trained.iter_mut().for_each(Tensor::zero_grad);
        let patch = tch::with_grad(|| {
            let base = |target| self.model.denoiser().weight(target).shallow_clone();
            self.deltas.patch(base, self.model.kind() == Kind::Float)
        })?;
        let (groups, scale) = {
            let groups = if self.options.in_batch { 1 } else { share.of };
            (groups, self.state.hold().scale.factor() / groups as f64)
        };
        let heads = RefCell::new(HeadStatistics::default());
        let mut total = Totals::default();
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

    /// Divides a batch into parts of sets of items; only items of a set are compared with each other. A part has at
    /// most `1/accumulate` of the items, and, unless it is a single set, at most as many rows as graphs may be kept of.
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

    /// Runs one part of a batch and adds its numbers to `total`. Only items of the same set are compared with each
    /// other.
    fn part(
        &self,
        sets: &[&[usize]],
        at: Position,
        patch: &Patch,
        heads: &RefCell<HeadStatistics>,
        tried: &Cell<usize>,
        total: &mut Totals,
    ) -> Result<()> {
        let mut gathered = self.gather(sets, at.first)?;
        let no_text = gathered.columns.len();
        if self.compares_to_none() {
            let none = self.model.encode_texts_and_none(&[], self.config.truncate)?;
            gathered.columns.extend(none.tokens.iter().map(Tokens::own_columns));
            gathered.texts.push(none.conditioning);
        }
        let matching: HashSet<Evaluation> = gathered.groups.iter().flat_map(ItemGroup::matching).collect();
        let running = RefCell::new(vec![]);
        let observer = |layer: usize, weights: &dyn Fn() -> Tensor| {
            let evaluations = running.borrow();
            // It is empty while rows run a second time.
            if !evaluations.is_empty() {
                heads.borrow_mut().record(layer, &weights(), &evaluations, &matching);
            }
        };
        let encoded = Encoded {
            latents: Tensor::cat(&gathered.latents, 0),
            noise: Tensor::cat(&gathered.noise, 0).to_device(self.model.device()),
            times: gathered.times,
            texts: Conditioning::cat(&gathered.texts),
            no_text,
            columns: gathered.columns,
            chosen: self.chosen.clone(),
            learned: self.learned.iter().map(|weights| weights.as_ref().map(Tensor::shallow_clone)).collect(),
            cache: None,
            conditions: self.model.conditions(&self.config)?,
            prior: None,
        };
        let context = ScoringContext {
            model: &self.model,
            config: &self.config,
            patch: Some(patch),
            encoded: &encoded,
            observer: Some(&observer),
        };
        let wanted = self.rows_at_a_time()?;
        let batch = self.memory.batch(wanted);
        let rows = gathered.groups.iter().map(|group| self.rows_of(group)).sum();
        let graph = at
            .graph
            .unwrap_or_else(|| self.memory.graph(rows, wanted, self.state.hold().needed, self.options.recompute));
        let at_once =
            if matches!(graph, GradientMode::Kept | GradientMode::Blockwise) { rows } else { rows.min(batch) };
        tried.set(tried.get().max(at_once));
        let pass = TrainingPass {
            context: &context,
            options: &self.options,
            groups: &gathered.groups,
            first: at.first,
            temperature: at.temperature,
            scale: at.scale,
            batch,
            recompute: self.memory.recompute(self.options.recompute),
            running: &running,
        };
        total.add(pass.run(graph)?);
        Ok(())
    }

    /// The encoded items of some sets, concatenated, with their times and noise.
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
                gathered.texts.push(item.conditioning.shallow_clone());
                gathered.columns.extend(item.tokens.iter().map(Tokens::own_columns));
            }
            let (times, noise) = self.draw(first + number)?;
            gathered.times.extend(times);
            gathered.noise.push(noise);
        }
        Ok(gathered)
    }

    /// The times and noise of the item at a position in the next step's batch.
    pub(super) fn draw(&self, position: usize) -> Result<(Vec<Time>, Tensor)> {
        let choices = match self.options.timesteps {
            TrainTimes::Config => self.model.times(&self.config)?,
            TrainTimes::Uniform => self.model.process().all(),
        };
        let shape = self.model.latent_shape(&self.config)?;
        let count = self.options.timesteps_per_step;
        Ok(draw::times(self.options.seed, self.steps(), position, &choices, count, shape))
    }

    fn items(&self, set: &[usize]) -> Result<Vec<&Item>> {
        let missing = |index: &usize| {
            self.cache.get(*index).ok_or_else(|| Error::Internal(anyhow::anyhow!("item {index} was not encoded")))
        };
        set.iter().map(missing).collect()
    }

    /// The group of some items, whose first image, first text and first step have these indices in the context.
    fn group(&self, set: &[usize], at: [usize; 2], first_step: usize) -> Result<ItemGroup> {
        let steps = first_step..first_step + self.options.timesteps_per_step;
        let group = ItemGroup::new(&self.items(set)?, &self.options, at, steps);
        if group.compared.pairs.is_empty() {
            return Err(Error::Dataset(format!(
                "item {} has nothing to compare: it needs a matching pair and, for this loss, a mismatch of the kind \
                 wanted",
                set[0]
            )));
        }
        Ok(group)
    }

    /// Number of evaluations of a group.
    fn rows_of(&self, group: &ItemGroup) -> usize {
        let pairs = &group.compared.pairs;
        let images: HashSet<usize> = pairs.iter().map(|&(image, _)| image).collect();
        let without_text = if self.compares_to_none() { images.len() } else { 0 };
        group.steps.len() * (pairs.len() + without_text)
    }

    /// Whether the loss needs predictions without text.
    fn compares_to_none(&self) -> bool {
        Coefficients::new(&self.config).needs_empty() && self.options.loss != Loss::Diffusion
    }

    /// Number of evaluations at a time: an evaluation with a graph takes about ten times the memory of one without.
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

/// A worker's part of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// The position in the batch of the worker's first item.
    pub first: usize,
    /// Number of items in the whole batch.
    pub of: usize,
}

impl Share {
    /// The whole batch.
    pub fn whole(indices: &[usize]) -> Self {
        Share { first: 0, of: indices.len() }
    }
}

/// The position of a part in its batch, and how it is run.
struct Position {
    first: usize,
    /// The divisor of scores.
    temperature: f64,
    /// The factor of the gradient.
    scale: f64,
    graph: Option<GradientMode>,
}

/// The encodings of several items, with their times and noise.
#[derive(Default)]
struct Gathered {
    groups: Vec<ItemGroup>,
    latents: Vec<Tensor>,
    texts: Vec<Conditioning>,
    columns: Vec<Columns>,
    times: Vec<Time>,
    noise: Vec<Tensor>,
}
