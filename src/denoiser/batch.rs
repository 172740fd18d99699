use std::collections::HashMap;

use tch::Tensor;

use crate::deltas::Projection;
use crate::device::upload;
use crate::encode::Conditioning;
use crate::runtime::{Lock, Shared};

/// The input of one evaluation: distinct latents, distinct texts, and the rows that pair them.
///
/// What depends on the latent alone is computed once per latent, up to where the first text comes in, and keys and
/// values once per text; the rows meet in the attention.
pub struct Batch<'a> {
    noised: &'a Tensor,
    times: &'a Tensor,
    texts: &'a Conditioning,
    latent_of: RowIndex,
    text_of: RowIndex,
    rows: i64,
    conditions: MicroConditions,
    known: Option<(&'a TextCache, RowIndex)>,
}

/// The guidance scale that latent consistency models are asked for unless the caller says: the default of diffusers'
/// LatentConsistencyModelPipeline.
pub const CONSISTENCY_GUIDANCE: f64 = 8.5;

/// Numbers that some networks are told beside latent, time and text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MicroConditions {
    /// The guidance scale, where it is an input of the network.
    pub guidance: f64,
    /// Height and width of the image before it was brought to its size, pixels (SDXL, Podell et al. 2023, section 2.2).
    pub original_size: [i64; 2],
    /// What was cut off at the top and at the left, pixels.
    pub crop: [i64; 2],
    /// Height and width of the image, pixels.
    pub target_size: [i64; 2],
}

impl MicroConditions {
    /// With the sizes that are given in place of these.
    pub fn with_sizes(
        self,
        original_size: Option<[i64; 2]>,
        crop: Option<[i64; 2]>,
        target_size: Option<[i64; 2]>,
    ) -> Self {
        MicroConditions {
            original_size: original_size.unwrap_or(self.original_size),
            crop: crop.unwrap_or(self.crop),
            target_size: target_size.unwrap_or(self.target_size),
            ..self
        }
    }

    /// Of an image of this size, nothing cut off.
    pub fn of_size(size: [i64; 2]) -> Self {
        MicroConditions { guidance: CONSISTENCY_GUIDANCE, original_size: size, crop: [0, 0], target_size: size }
    }
}

impl<'a> Batch<'a> {
    /// Noised latents `[I, C, h, w]`, the times that the network is given `[I]`, texts `T`, and for each row its latent and
    /// its text.
    pub fn new(
        noised: &'a Tensor,
        times: &'a Tensor,
        texts: &'a Conditioning,
        latent_of: &[usize],
        text_of: &[usize],
        conditions: MicroConditions,
    ) -> Self {
        assert_eq!(latent_of.len(), text_of.len(), "every row has a latent and a text");
        let indices = [RowIndex::new(latent_of, noised), RowIndex::new(text_of, &texts.context)];
        Batch::indexed(noised, times, texts, indices, latent_of.len(), conditions)
    }

    /// The same where it is known already which latents and texts `rows` rows take.
    pub fn indexed(
        noised: &'a Tensor,
        times: &'a Tensor,
        texts: &'a Conditioning,
        [latent_of, text_of]: [RowIndex; 2],
        rows: usize,
        conditions: MicroConditions,
    ) -> Self {
        let rows = rows as i64;
        // What has as many entries as there are rows is taken for one entry a row, in their order.
        let in_order = noised.size()[0] != rows || matches!(latent_of, RowIndex::All);
        assert!(in_order, "as many latents as rows have to be in the order of the rows");
        Batch { noised, times, texts, latent_of, text_of, rows, conditions, known: None }
    }

    /// The same with keys and values taken from `cache`, in which the texts of the rows have these indices.
    pub fn with_cache(self, cache: &'a TextCache, text_of: &[usize]) -> Self {
        let index = RowIndex::new(text_of, &cache.context);
        Batch { known: Some((cache, index)), ..self }
    }

    pub fn conditions(&self) -> &MicroConditions {
        &self.conditions
    }

    pub fn noised(&self) -> &Tensor {
        self.noised
    }

    /// What the network is given for the times of the latents, `[I]`.
    pub fn times(&self) -> &Tensor {
        self.times
    }

    /// `[I, …]` to `[B, …]`; what is by row already stays.
    pub fn by_row(&self, x: &Tensor) -> Tensor {
        if x.size()[0] == self.rows { x.shallow_clone() } else { self.latent_of.apply(x) }
    }

    /// `x` `[I, …]` or `[B, …]` beside `like`: by row if `like` is.
    pub fn beside(&self, x: &Tensor, like: &Tensor) -> Tensor {
        if x.size()[0] == like.size()[0] { x.shallow_clone() } else { self.by_row(x) }
    }

    /// What `project` makes of the texts' vectors at a layer, `[B, m, c]`: from the cache, or of this batch's texts alone.
    pub fn of_texts(&self, place: (usize, Projection), project: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        match &self.known {
            Some((cache, index)) => index.apply(&cache.get(place, project)),
            None => self.text_of.apply(&project(&self.texts.context)),
        }
    }

    /// What `project` makes of the texts' pooled vectors `[T, p]`, by row.
    pub fn of_pooled(&self, project: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        self.text_of
            .apply(&project(self.texts.pooled.as_ref().expect("the model's text encoders give a pooled vector")))
    }
}

/// Keys and values of all texts of a request, each layer's computed when it is first asked for.
pub struct TextCache {
    /// `[T, m, D]`
    context: Shared<Tensor>,
    known: Lock<HashMap<(usize, Projection), Tensor>>,
}

impl TextCache {
    /// Of these texts `[T, m, D]`, and for one network and patch.
    pub fn new(context: &Tensor) -> Self {
        // SAFETY: a tensor, and encoded texts are only read.
        TextCache { context: unsafe { Shared::new(context.shallow_clone()) }, known: Lock::default() }
    }

    fn get(&self, place: (usize, Projection), project: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        let mut known = self.known.hold();
        known.entry(place).or_insert_with(|| project(&self.context)).shallow_clone()
    }
}

/// Rows of a tensor by index.
pub enum RowIndex {
    /// Row `i` is entry `i`.
    All,
    /// Every row is this entry.
    One(i64, i64),
    Index(Tensor),
}

impl RowIndex {
    /// Row `i` is entry `index[i]` of tensors with as many entries as `of`, and on its device.
    pub fn new(index: &[usize], of: &Tensor) -> Self {
        let entries = of.size()[0] as usize;
        if entries == index.len() && index.iter().enumerate().all(|(i, &entry)| i == entry) {
            return RowIndex::All;
        }
        if index.iter().all(|&entry| entry == index[0]) {
            return RowIndex::One(index[0] as i64, index.len() as i64);
        }
        let index: Vec<i64> = index.iter().map(|&entry| entry as i64).collect();
        RowIndex::Index(upload(&Tensor::from_slice(&index), of.device()))
    }

    /// The same with what `f` makes of the index, where there is one on the device.
    pub fn map(&self, f: impl FnOnce(&Tensor) -> Tensor) -> Self {
        match self {
            RowIndex::All => RowIndex::All,
            RowIndex::One(entry, rows) => RowIndex::One(*entry, *rows),
            RowIndex::Index(index) => RowIndex::Index(f(index)),
        }
    }

    fn apply(&self, x: &Tensor) -> Tensor {
        match self {
            RowIndex::All => x.shallow_clone(),
            RowIndex::One(entry, rows) => {
                let mut size = x.size();
                size[0] = *rows;
                x.narrow(0, *entry, 1).expand(size, false)
            }
            // Where channels lie side by side they shall stay so, which libtorch would change.
            RowIndex::Index(index) if x.dim() == 4 && x.stride()[1] == 1 => {
                x.permute([0, 2, 3, 1]).index_select(0, index).permute([0, 3, 1, 2])
            }
            RowIndex::Index(index) => x.index_select(0, index),
        }
    }
}
