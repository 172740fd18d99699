use std::collections::HashMap;

use tch::Tensor;

use crate::deltas::Projection;
use crate::device::upload;
use crate::encode::Conditioning;
use crate::runtime::{Lock, Shared};

/// The input of one evaluation: `I` distinct latents, `T` distinct texts, and `B` rows that pair them.
///
/// Layers before the first cross-attention are computed once per latent, and keys and values once per text. From the
/// first cross-attention on, tensors have one entry per row.
pub struct Batch<'a> {
    noised: &'a Tensor,
    times: &'a Tensor,
    texts: &'a Conditioning,
    latent_of: RowIndex,
    text_of: RowIndex,
    rows: i64,
    conditions: MicroConditions,
    cache: Option<(&'a TextCache, RowIndex)>,
}

/// The default guidance scale of latent consistency models: that of diffusers' LatentConsistencyModelPipeline.
pub const CONSISTENCY_GUIDANCE: f64 = 8.5;

/// Inputs of some networks beside latent, time and text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MicroConditions {
    /// The guidance scale, if it is an input of the network.
    pub guidance: f64,
    /// Height and width of the image before it was resized, pixels (SDXL, Podell et al. 2023, section 2.2).
    pub original_size: [i64; 2],
    /// Rows cropped at the top and columns cropped at the left, pixels.
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
    /// A batch of noised latents `[I, C, h, w]`, the network's inputs for their times `[I]`, and `T` texts. `latent_of`
    /// and `text_of` have the latent and the text of each row.
    ///
    /// # Panics
    /// If `latent_of` and `text_of` differ in length, or there are as many latents as rows but in another order.
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

    /// [`Self::new`] with the row indices of `rows` rows already on the device.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn indexed(
        noised: &'a Tensor,
        times: &'a Tensor,
        texts: &'a Conditioning,
        [latent_of, text_of]: [RowIndex; 2],
        rows: usize,
        conditions: MicroConditions,
    ) -> Self {
        let rows = rows as i64;
        // A tensor with `rows` entries is assumed to have one entry per row, in order: see `by_row`.
        let in_order = noised.size()[0] != rows || matches!(latent_of, RowIndex::All);
        assert!(in_order, "as many latents as rows have to be in the order of the rows");
        Batch { noised, times, texts, latent_of, text_of, rows, conditions, cache: None }
    }

    /// The same batch with keys and values taken from `cache`, in which the texts of the rows have these indices.
    pub fn with_cache(self, cache: &'a TextCache, text_of: &[usize]) -> Self {
        let index = RowIndex::new(text_of, &cache.context);
        Batch { cache: Some((cache, index)), ..self }
    }

    /// Sizes and guidance, for networks that take them.
    pub fn conditions(&self) -> &MicroConditions {
        &self.conditions
    }

    /// The noised latents `[I, C, h, w]`.
    pub fn noised(&self) -> &Tensor {
        self.noised
    }

    /// The network's inputs for the times of the latents, `[I]`.
    pub fn times(&self) -> &Tensor {
        self.times
    }

    /// Entries per latent `[I, …]` to entries per row `[B, …]`; entries per row are returned as they are.
    pub fn by_row(&self, x: &Tensor) -> Tensor {
        if x.size()[0] == self.rows { x.shallow_clone() } else { self.latent_of.apply(x) }
    }

    /// `x` `[I, …]` or `[B, …]` with as many entries as `like`.
    pub fn beside(&self, x: &Tensor, like: &Tensor) -> Tensor {
        if x.size()[0] == like.size()[0] { x.shallow_clone() } else { self.by_row(x) }
    }

    /// The projection of the texts' vectors `[T, m, D]` at a layer, by row `[B, m, c]`: from the cache, or computed for
    /// this batch.
    pub fn of_texts(&self, key: (usize, Projection), project: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        match &self.cache {
            Some((cache, index)) => index.apply(&cache.get(key, project)),
            None => self.text_of.apply(&project(&self.texts.context)),
        }
    }

    /// `project` of the texts' vectors `[T, m, D]`, by row.
    pub fn of_context(&self, project: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        self.text_of.apply(&project(&self.texts.context))
    }

    /// `project` of the texts' pooled vectors `[T, p]`, by row.
    ///
    /// # Panics
    /// If the model's text encoders compute no pooled vector.
    pub fn of_pooled(&self, project: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        self.text_of
            .apply(&project(self.texts.pooled.as_ref().expect("the model's text encoders give a pooled vector")))
    }
}

/// Keys and values of all texts of a request; those of a layer are computed at their first use.
pub struct TextCache {
    /// `[T, m, D]`
    context: Shared<Tensor>,
    projections: Lock<HashMap<(usize, Projection), Tensor>>,
}

impl TextCache {
    /// An empty cache for these texts `[T, m, D]`. It must be used with one network and one patch only.
    pub fn new(context: &Tensor) -> Self {
        // SAFETY: a tensor, and encoded texts are only read.
        TextCache { context: unsafe { Shared::new(context.shallow_clone()) }, projections: Lock::default() }
    }

    fn get(&self, key: (usize, Projection), project: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        let mut projections = self.projections.hold();
        projections.entry(key).or_insert_with(|| project(&self.context)).shallow_clone()
    }
}

/// For each row of a batch, the index of an entry of a tensor.
pub enum RowIndex {
    /// Row `i` is entry `i`.
    All,
    /// Every row is the same entry: the entry and the number of rows.
    One(i64, i64),
    /// Any other index, int64 `[B]` on the device.
    Index(Tensor),
}

impl RowIndex {
    /// The index by which row `i` is entry `index[i]`, for tensors on the device of `of` and with as many entries.
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

    /// The same index with the tensor on the device, if there is one, passed through `f`.
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
            // This keeps the channels-last layout, which `index_select` itself would not.
            RowIndex::Index(index) if x.dim() == 4 && x.stride()[1] == 1 => {
                x.permute([0, 2, 3, 1]).index_select(0, index).permute([0, 3, 1, 2])
            }
            RowIndex::Index(index) => x.index_select(0, index),
        }
    }
}
