//! A batch of items: gathers their encodings, draws times and noise, and runs the passes of its parts.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use tch::{Kind, Tensor};

use super::Session;
use super::draw;
use super::group::ItemGroup;
use super::heads::HeadStatistics;
use super::item::{Item, texts_of_others};
use super::pass::{GradientMode, TrainingPass};
use super::temperature::Temperature;
use super::times;
use super::totals::Totals;
use crate::config::{Loss, Method};
use crate::deltas::Patch;
use crate::device::upload;
use crate::encode::Conditioning;
use crate::encode::text::{Columns, Tokens};
use crate::noise::Time;
use crate::runtime::{caught, warnings};
use crate::score::{Coefficients, Encoded, Evaluation, ScoringContext};
use crate::{Error, Result};

impl Session {
    /// Runs one batch. When memory runs out, it runs the batch again with less of it in memory.
    pub(super) fn pass(&mut self, indices: &[usize], run: &BatchRun, temperature: &Temperature) -> Result<Totals> {
        loop {
            let tried = Cell::new(0);
            let why = match caught(|| self.attempt(indices, run, temperature, &tried)) {
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
        run: &BatchRun,
        temperature: &Temperature,
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
            let groups = if self.options.in_batch { 1 } else { run.share.of };
            (groups, self.state.hold().scale.factor() / groups as f64)
        };
        let heads = RefCell::new(HeadStatistics::default());
        let mut total = Totals::default();
        let mut first = run.share.first;
        for part in self.parts(indices, first)? {
            let at = Position { first, temperature, scale, run };
            self.part(&part, at, &patch, &heads, tried, &mut total)?;
            first += part.len();
        }
        total.loss /= groups as f64;
        total.active /= groups as f64;
        total.heads = heads.into_inner();
        Ok(total)
    }

    /// Divides a batch, the first item of which has the position `first`, into parts of sets of items. A part has at
    /// most `1/accumulate` of the items, and, unless it is a single set, at most as many rows as graphs may be kept of.
    fn parts<'i>(&self, indices: &'i [usize], first: usize) -> Result<Vec<Vec<ItemSet<'i>>>> {
        if self.options.in_batch {
            return Ok(vec![vec![ItemSet { items: indices, texts: vec![] }]]);
        }
        let most_items = indices.len().div_ceil(self.options.accumulate).max(1);
        let most_rows = self.memory.limit(self.rows_at_a_time()?);
        let mut parts: Vec<Vec<ItemSet>> = vec![];
        let mut rows = 0;
        for (place, items) in indices.chunks(1).enumerate() {
            let set = ItemSet { items, texts: self.texts_beside(indices, place, first + place)? };
            let more = self.rows_of(&self.group(&set, [0, 0], 0)?);
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

    /// The texts of other items of a batch that the item at a place is compared with, `(item, text)`. `position` is
    /// its place in the whole batch.
    fn texts_beside(&self, indices: &[usize], place: usize, position: usize) -> Result<Vec<(usize, usize)>> {
        if self.options.batch_texts == 0 {
            return Ok(vec![]);
        }
        let labels: Vec<_> = self.items(indices)?.into_iter().map(Item::labels).collect();
        let from = texts_of_others(&labels, place);
        let drawn = draw::texts(self.options.seed, self.steps(), position, from, self.options.batch_texts);
        Ok(drawn.into_iter().map(|(item, text)| (indices[item], text)).collect())
    }

    /// Runs one part of a batch and adds its numbers to `total`.
    fn part(
        &self,
        sets: &[ItemSet],
        at: Position,
        patch: &Patch,
        heads: &RefCell<HeadStatistics>,
        tried: &Cell<usize>,
        total: &mut Totals,
    ) -> Result<()> {
        let mut gathered = self.gather(sets, at.first, at.run.choice)?;
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
        let images = gathered.latents.iter().map(|latents| latents.size()[0] as usize).sum::<usize>();
        gathered.latents.extend(self.nulls.as_ref().map(Tensor::shallow_clone));
        let encoded = Encoded {
            latents: Tensor::cat(&gathered.latents, 0),
            noise: Tensor::cat(&gathered.noise, 0).to_device(self.model.device()),
            learned: self.learned_at(&gathered.choices),
            denoising: self.denoising_at(&gathered.choices),
            times: gathered.times,
            texts: Conditioning::cat(&gathered.texts),
            no_text,
            columns: gathered.columns,
            chosen: self.chosen.clone(),
            cache: None,
            conditions: self.model.conditions(&self.config)?,
            // The pass subtracts it, since it is trained too.
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
        let graph = (at.run.graph)
            .unwrap_or_else(|| self.memory.graph(rows, wanted, self.state.hold().needed, self.options.recompute));
        let at_once =
            if matches!(graph, GradientMode::Kept | GradientMode::Blockwise) { rows } else { rows.min(batch) };
        tried.set(tried.get().max(at_once));
        let pass = TrainingPass {
            context: &context,
            options: &self.options,
            groups: &gathered.groups,
            first: at.first,
            nulls: images..images + self.null_count(),
            temperature: at.temperature.value,
            factors: encoded.times.iter().map(|&time| at.temperature.factor(time)).collect(),
            scale: at.scale,
            batch,
            recompute: self.memory.recompute(self.options.recompute),
            running: &running,
        };
        total.add(pass.run(graph)?);
        Ok(())
    }

    /// The encoded items of some sets, concatenated, with their times and noise.
    fn gather(&self, sets: &[ItemSet], first: usize, choice: Option<usize>) -> Result<Gathered> {
        let k = self.options.timesteps_per_step;
        let mut gathered = Gathered::default();
        let (mut images, mut texts) = (0, 0);
        for (number, set) in sets.iter().enumerate() {
            let group = self.group(set, [images, texts], number * k)?;
            gathered.groups.push(group);
            for item in self.items(set.items)? {
                images += item.matches.len();
                texts += item.texts.len();
                gathered.latents.push(item.latents.shallow_clone());
                gathered.texts.push(item.conditioning.shallow_clone());
                gathered.columns.extend(item.tokens.iter().map(Tokens::own_columns));
            }
            for &(index, text) in &set.texts {
                let item = self.items(&[index])?[0];
                texts += 1;
                gathered.texts.push(item.conditioning.map(|x| x.narrow(0, text as i64, 1)));
                gathered.columns.push(item.tokens[text].own_columns());
            }
            let Drawn { choices, times, noise } = self.draw(first + number, choice)?;
            gathered.choices.extend(choices);
            gathered.times.extend(times);
            gathered.noise.push(noise);
        }
        Ok(gathered)
    }

    /// The times that steps draw from.
    pub(super) fn choices(&self) -> Result<Vec<Time>> {
        let which = self.state.hold().times;
        times::choices(&self.model, &self.config, which)
    }

    /// The times and noise of the item at a position in the next step's batch; all times are that of `choice` if it is
    /// given.
    pub(super) fn draw(&self, position: usize, choice: Option<usize>) -> Result<Drawn> {
        let all = self.choices()?;
        let shape = self.model.latent_shape(&self.config)?;
        let count = self.options.timesteps_per_step;
        let (drawn, noise) = draw::times(self.options.seed, self.steps(), position, all.len(), count, shape);
        let choices: Vec<usize> = drawn.into_iter().map(|drawn| choice.unwrap_or(drawn)).collect();
        Ok(Drawn { times: choices.iter().map(|&choice| all[choice]).collect(), choices, noise })
    }

    /// The head weights of each layer at drawn times. Weights of a calibration are those of the configuration's times,
    /// from which times are drawn then.
    fn learned_at(&self, choices: &[usize]) -> Vec<Option<Tensor>> {
        let rows: Vec<i64> = choices.iter().map(|&choice| choice as i64).collect();
        let rows = upload(&Tensor::from_slice(&rows), self.model.device());
        let of_layer = |weights: &Tensor| match self.config.method {
            Method::Calibrated => weights.index_select(0, &rows),
            _ => weights.shallow_clone(),
        };
        self.learned.iter().map(|weights| weights.as_ref().map(of_layer)).collect()
    }

    /// The weights of the denoising term at drawn times.
    fn denoising_at(&self, choices: &[usize]) -> Vec<f64> {
        match self.config.method {
            Method::Calibrated => choices.iter().map(|&choice| self.denoising[choice]).collect(),
            _ => vec![1.0; choices.len()],
        }
    }

    /// The number of null images.
    fn null_count(&self) -> usize {
        self.nulls.as_ref().map_or(0, |nulls| nulls.size()[0] as usize)
    }

    fn items(&self, indices: &[usize]) -> Result<Vec<&Item>> {
        let missing = |index: &usize| {
            self.cache.get(*index).ok_or_else(|| Error::Internal(anyhow::anyhow!("item {index} was not encoded")))
        };
        indices.iter().map(missing).collect()
    }

    /// The group of a set, whose first image, first text and first step have these indices in the context.
    fn group(&self, set: &ItemSet, at: [usize; 2], first_step: usize) -> Result<ItemGroup> {
        let steps = first_step..first_step + self.options.timesteps_per_step;
        let (items, others) = (self.items(set.items)?, set.texts.len());
        let group = ItemGroup::new(&items, others, &self.options, self.nulls.is_some(), at, steps);
        if group.compared.pairs.is_empty() {
            return Err(Error::Dataset(format!(
                "item {} has nothing to compare: it needs a matching pair and, for this loss, a mismatch of the kind \
                 wanted",
                set.items[0]
            )));
        }
        Ok(group)
    }

    /// Number of evaluations of a group.
    fn rows_of(&self, group: &ItemGroup) -> usize {
        let pairs = &group.compared.pairs;
        let images = pairs.iter().map(|&(image, _)| image).collect::<HashSet<usize>>().len();
        let priors = group.prior_texts.len();
        let nulls = if priors > 0 { self.null_count() } else { 0 };
        let without_text = if self.compares_to_none() { images + nulls } else { 0 };
        group.steps.len() * (pairs.len() + priors * nulls + without_text)
    }

    /// Whether the loss needs predictions without text.
    fn compares_to_none(&self) -> bool {
        let coefficients = Coefficients::new(&self.config, self.model.calibration());
        coefficients.needs_empty() && self.options.loss != Loss::Diffusion
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

/// Items that are compared with each other.
struct ItemSet<'i> {
    items: &'i [usize],
    /// Texts of other items that they are compared with too: `(item, text)`.
    texts: Vec<(usize, usize)>,
}

/// How a batch is run.
pub(super) struct BatchRun {
    pub share: Share,
    /// How gradients are computed; `None` for the cheapest way that memory allows.
    pub graph: Option<GradientMode>,
    /// The time of all items, an index of those that steps draw from; `None` for times that are drawn.
    pub choice: Option<usize>,
}

impl BatchRun {
    /// The run of a share of a step.
    pub fn step(share: Share) -> Self {
        BatchRun { share, graph: None, choice: None }
    }

    /// The run of a whole batch.
    pub fn whole(indices: &[usize]) -> Self {
        BatchRun::step(Share::whole(indices))
    }
}

/// The position of a part in its batch, and how it is run.
struct Position<'a> {
    first: usize,
    /// The divisor of scores.
    temperature: &'a Temperature,
    /// The factor of the gradient.
    scale: f64,
    run: &'a BatchRun,
}

/// What the item at a position of a batch is scored with.
pub(super) struct Drawn {
    /// The times, as indices of those that steps draw from.
    choices: Vec<usize>,
    pub times: Vec<Time>,
    /// `[k, C, h, w]`
    pub noise: Tensor,
}

/// The encodings of several items, with their times and noise.
#[derive(Default)]
struct Gathered {
    groups: Vec<ItemGroup>,
    latents: Vec<Tensor>,
    texts: Vec<Conditioning>,
    columns: Vec<Columns>,
    choices: Vec<usize>,
    times: Vec<Time>,
    noise: Vec<Tensor>,
}
