use std::collections::HashMap;

use tch::Tensor;

use crate::deltas::Projection;
use crate::torch::{Lock, Shared, upload};

/// The input of one evaluation: distinct latents, distinct texts, and the rows that pair them.
///
/// What depends on the latent alone is computed once per latent, up to where the first text comes in, and keys and
/// values once per text; the rows meet in the attention.
pub struct Batch<'a> {
    noised: &'a Tensor,
    timesteps: &'a Tensor,
    text: &'a Tensor,
    latent_of: Pick,
    text_of: Pick,
    rows: i64,
    guidance: f64,
    known: Option<(&'a TextCache, Pick)>,
}

/// The guidance scale that latent consistency models are asked for unless the caller says: the default of diffusers'
/// LatentConsistencyModelPipeline.
pub const CONSISTENCY_GUIDANCE: f64 = 8.5;

impl<'a> Batch<'a> {
    /// Noised latents `[I, C, h, w]`, their timesteps `[I]` (int64), texts `[T, m, D]`, and for each row its latent
    /// and its text.
    pub fn new(
        noised: &'a Tensor,
        timesteps: &'a Tensor,
        text: &'a Tensor,
        latent_of: &[usize],
        text_of: &[usize],
    ) -> Self {
        assert_eq!(latent_of.len(), text_of.len(), "every row has a latent and a text");
        let picks = [Pick::new(latent_of, noised), Pick::new(text_of, text)];
        Batch::picked(noised, timesteps, text, picks, latent_of.len())
    }

    /// The same where it is known already which latents and texts `rows` rows take.
    pub fn picked(
        noised: &'a Tensor,
        timesteps: &'a Tensor,
        text: &'a Tensor,
        [latent_of, text_of]: [Pick; 2],
        rows: usize,
    ) -> Self {
        let (rows, guidance) = (rows as i64, CONSISTENCY_GUIDANCE);
        // What has as many entries as there are rows is taken for one entry a row, in their order.
        let in_order = noised.size()[0] != rows || matches!(latent_of, Pick::All);
        assert!(in_order, "as many latents as rows have to be in the order of the rows");
        Batch { noised, timesteps, text, latent_of, text_of, rows, guidance, known: None }
    }

    /// The same with keys and values taken from `cache`, in which the texts of the rows have these indices.
    pub fn with_cache(self, cache: &'a TextCache, text_of: &[usize]) -> Self {
        let pick = Pick::new(text_of, &cache.texts);
        Batch { known: Some((cache, pick)), ..self }
    }

    /// The same with another guidance scale, which only models that take it as an input read.
    pub fn guided(self, scale: f64) -> Self {
        Batch { guidance: scale, ..self }
    }

    pub fn guidance(&self) -> f64 {
        self.guidance
    }

    pub fn noised(&self) -> &Tensor {
        self.noised
    }

    pub fn timesteps(&self) -> &Tensor {
        self.timesteps
    }

    /// `[I, …]` to `[B, …]`; what is by row already stays.
    pub fn by_row(&self, x: &Tensor) -> Tensor {
        if x.size()[0] == self.rows { x.shallow_clone() } else { self.latent_of.apply(x) }
    }

    /// `x` `[I, …]` or `[B, …]` beside `like`: by row if `like` is.
    pub fn beside(&self, x: &Tensor, like: &Tensor) -> Tensor {
        if x.size()[0] == like.size()[0] { x.shallow_clone() } else { self.by_row(x) }
    }

    /// What `project` makes of the texts at a site, `[B, m, c]`: from the cache, or of this batch's texts alone.
    pub fn of_texts(&self, place: (usize, Projection), project: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        match &self.known {
            Some((cache, pick)) => pick.apply(&cache.get(place, project)),
            None => self.text_of.apply(&project(self.text)),
        }
    }
}

/// Keys and values of all texts of a request, each site's computed when it is first asked for.
pub struct TextCache {
    /// `[T, m, D]`
    texts: Shared<Tensor>,
    known: Lock<HashMap<(usize, Projection), Tensor>>,
}

impl TextCache {
    /// Of these texts `[T, m, D]`, and for one network and patch.
    pub fn new(texts: &Tensor) -> Self {
        // SAFETY: a tensor, and encoded texts are only read.
        TextCache { texts: unsafe { Shared::new(texts.shallow_clone()) }, known: Lock::default() }
    }

    fn get(&self, place: (usize, Projection), project: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        let mut known = self.known.hold();
        known.entry(place).or_insert_with(|| project(&self.texts)).shallow_clone()
    }
}

/// Rows of a tensor by index.
pub enum Pick {
    /// Row `i` is entry `i`.
    All,
    /// Every row is this entry.
    One(i64, i64),
    Index(Tensor),
}

impl Pick {
    /// Row `i` is entry `index[i]` of tensors with as many entries as `of`, and on its device.
    pub fn new(index: &[usize], of: &Tensor) -> Self {
        let entries = of.size()[0] as usize;
        if entries == index.len() && index.iter().enumerate().all(|(i, &entry)| i == entry) {
            return Pick::All;
        }
        if index.iter().all(|&entry| entry == index[0]) {
            return Pick::One(index[0] as i64, index.len() as i64);
        }
        let index: Vec<i64> = index.iter().map(|&entry| entry as i64).collect();
        Pick::Index(upload(&Tensor::from_slice(&index), of.device()))
    }

    /// The same with what `f` makes of the index, where there is one on the device.
    pub fn map(&self, f: impl FnOnce(&Tensor) -> Tensor) -> Self {
        match self {
            Pick::All => Pick::All,
            Pick::One(entry, rows) => Pick::One(*entry, *rows),
            Pick::Index(index) => Pick::Index(f(index)),
        }
    }

    fn apply(&self, x: &Tensor) -> Tensor {
        match self {
            Pick::All => x.shallow_clone(),
            Pick::One(entry, rows) => {
                let mut size = x.size();
                size[0] = *rows;
                x.narrow(0, *entry, 1).expand(size, false)
            }
            // Where channels lie side by side they shall stay so, which libtorch would change.
            Pick::Index(index) if x.dim() == 4 && x.stride()[1] == 1 => {
                x.permute([0, 2, 3, 1]).index_select(0, index).permute([0, 3, 1, 2])
            }
            Pick::Index(index) => x.index_select(0, index),
        }
    }
}
