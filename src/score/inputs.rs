//! What a batch of evaluations needs before the network is run.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

use tch::Tensor;

use super::ScoringContext;
use super::plan::Evaluation;
use crate::Result;
use crate::config::TokenSet;
use crate::denoiser::{Batch, MicroConditions, RowIndex, TextCache};
use crate::device::upload;
use crate::encode::Conditioning;
use crate::encode::text::Columns;
use crate::model::Model;
use crate::noise::Time;
use crate::pooling;

/// Everything on the model's device that is read, and how it belongs together.
pub struct Inputs {
    noised: Tensor,
    /// What the network is given for the times.
    model_times: Tensor,
    texts: Conditioning,
    latent_index: RowIndex,
    text_index: RowIndex,
    conditions: MicroConditions,
    /// Of [`FusedPooling`](crate::pooling::FusedPooling), where they are used on the device.
    pub ranges: Option<Tensor>,
    /// `[B, C, h, w]`, where the prediction is wanted.
    pub target: Option<Tensor>,
    /// By latent.
    times: Vec<Time>,
    pub latent_of: Vec<usize>,
    pub text_of: Vec<usize>,
    /// By row, the text's index in the context.
    context_text_of: Vec<usize>,
    columns: Vec<Columns>,
    /// The same as ranges, where all are.
    own_ranges: Option<Vec<Range<usize>>>,
    /// By layer, whether its map is wanted.
    pub layers: Vec<bool>,
    /// Whether a map was formed to be pooled, where pooled rows might have done.
    pub formed: Cell<bool>,
}

impl Inputs {
    /// The batch for the backbone.
    pub fn batch<'a>(&'a self, cache: Option<&'a TextCache>) -> Batch<'a> {
        let indices = [&self.latent_index, &self.text_index].map(|index| index.map(Tensor::shallow_clone));
        let batch = Batch::indexed(&self.noised, &self.model_times, &self.texts, indices, self.rows(), self.conditions);
        match cache {
            Some(cache) => batch.with_cache(cache, &self.context_text_of),
            None => batch,
        }
    }

    /// Compares a prediction `[B, C, h, w]` with what the model is configured to predict, see
    /// [`Model::compare_to_target`].
    pub fn compare_to_target(&self, model: &Model, prediction: &Tensor) {
        let Some(target) = self.target.as_ref().filter(|_| !model.is_compared()) else { return };
        let times: Vec<Time> = self.latent_of.iter().map(|&latent| self.times[latent]).collect();
        let noised = self.batch(None).by_row(&self.noised);
        model.compare_to_target(&noised, target, prediction, &times);
    }

    pub fn rows(&self) -> usize {
        self.latent_of.len()
    }

    /// By row, the columns of the text's own tokens.
    pub fn columns(&self) -> &[Columns] {
        &self.columns
    }

    /// The same as ranges, where the columns of every row lie side by side.
    pub fn own_ranges(&self) -> Option<&[Range<usize>]> {
        self.own_ranges.as_deref()
    }

    /// The same with what `f` makes of each tensor, in an order that is always the same.
    pub fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Inputs {
        Inputs {
            noised: f(&self.noised),
            model_times: f(&self.model_times),
            texts: self.texts.map(&mut *f),
            latent_index: self.latent_index.map(&mut *f),
            text_index: self.text_index.map(&mut *f),
            conditions: self.conditions,
            ranges: self.ranges.as_ref().map(&mut *f),
            target: self.target.as_ref().map(&mut *f),
            times: self.times.clone(),
            latent_of: self.latent_of.clone(),
            text_of: self.text_of.clone(),
            context_text_of: self.context_text_of.clone(),
            columns: self.columns.clone(),
            own_ranges: self.own_ranges.clone(),
            layers: self.layers.clone(),
            formed: self.formed.clone(),
        }
    }
}

impl ScoringContext<'_> {
    /// Gathers distinct latents and texts, and noises the latents (Eq. 3).
    pub fn inputs(&self, evaluations: &[Evaluation], prediction: bool) -> Result<Inputs> {
        let (device, process, encoded) = (self.model.device(), self.model.process(), self.encoded);
        let with_text = evaluations[0].text != encoded.no_text;
        let attention = with_text && self.coefficients().needs_maps();

        let (latents, latent_of) = distinct(evaluations.iter().map(|one| (one.image, one.step)));
        let (texts, text_of) = distinct(evaluations.iter().map(|one| one.text));
        let times: Vec<Time> = latents.iter().map(|&(_, step)| encoded.times[step]).collect();
        let model_times: Vec<f64> = times.iter().map(|&time| process.model_time(time)).collect();
        let index = |of: &[usize]| {
            let of: Vec<i64> = of.iter().map(|&i| i as i64).collect();
            upload(&Tensor::from_slice(&of), device)
        };
        let of_latents = |part: fn(&(usize, usize)) -> usize| index(&latents.iter().map(part).collect::<Vec<_>>());
        let clean = encoded.latents.index_select(0, &of_latents(|&(image, _)| image));
        let noise = encoded.noise.index_select(0, &of_latents(|&(_, step)| step));
        let noised = process.add_noise(&clean, &noise, &times).to_kind(self.model.kind());
        let texts = encoded.texts.select(&index(&texts));
        let columns: Vec<Columns> = evaluations.iter().map(|one| encoded.columns[one.text].clone()).collect();
        let own_ranges: Option<Vec<_>> = columns.iter().map(Columns::as_range).collect();
        let counted = attention && self.config.tokens == TokenSet::Content && device.is_cuda();
        Ok(Inputs {
            latent_index: RowIndex::new(&latent_of, &noised),
            text_index: RowIndex::new(&text_of, &texts.context),
            ranges: own_ranges.as_ref().filter(|_| counted).map(|ranges| pooling::ranges(ranges, device)),
            target: prediction.then(|| process.target(&clean, &noise, &times).index_select(0, &index(&latent_of))),
            model_times: upload(&Tensor::from_slice(&model_times), device),
            conditions: encoded.conditions,
            times,
            noised,
            texts,
            columns,
            own_ranges,
            layers: if attention { encoded.chosen.clone() } else { vec![false; encoded.chosen.len()] },
            latent_of,
            text_of,
            context_text_of: evaluations.iter().map(|one| one.text).collect(),
            formed: Cell::new(false),
        })
    }
}

/// The distinct values in order of first use, and for each value which of them it is.
fn distinct<T: Copy + Eq + Hash>(values: impl Iterator<Item = T>) -> (Vec<T>, Vec<usize>) {
    let mut found = vec![];
    let mut place = HashMap::new();
    let index = values.map(|value| {
        *place.entry(value).or_insert_with(|| {
            found.push(value);
            found.len() - 1
        })
    });
    let index = index.collect();
    (found, index)
}
