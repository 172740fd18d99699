//! The inputs of a batch of evaluations: noised latents, texts, targets, and the rows that pair them.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;

use tch::Tensor;

use super::ScoringContext;
use super::plan::Evaluation;
use crate::config::{DenoisingTarget, TokenSet};
use crate::denoiser::{Batch, MicroConditions, RowIndex, TextCache};
use crate::device::upload;
use crate::encode::Conditioning;
use crate::encode::text::Columns;
use crate::model::Model;
use crate::noise::Time;
use crate::pooling;

/// The tensors that a batch of evaluations reads, on the model's device, and the indices that pair them.
pub struct Inputs {
    /// `[I, C, h, w]`, the distinct noised latents, in the model's type.
    noised: Tensor,
    /// float64 `[I]`, the network's input for the times.
    model_times: Tensor,
    /// The distinct texts.
    texts: Conditioning,
    latent_index: RowIndex,
    text_index: RowIndex,
    conditions: MicroConditions,
    /// int64 `[B, 2]`, see [`pooling::ranges`]; only if a kernel on the device reads them.
    pub ranges: Option<Tensor>,
    /// float32 `[B, C, h, w]`, the target of the prediction; only if the prediction is wanted.
    pub target: Option<Tensor>,
    /// float64 `[B]`, what errors of predictions are multiplied by; only if they are not taken as they are.
    pub error_factors: Option<Tensor>,
    /// The time of each latent.
    times: Vec<Time>,
    /// For each row, the index of its time in the context.
    pub steps: Vec<usize>,
    /// For each row, its latent.
    pub latent_of: Vec<usize>,
    /// For each row, its text among the distinct ones.
    pub text_of: Vec<usize>,
    /// For each row, its text's index in the context.
    context_text_of: Vec<usize>,
    columns: Vec<Columns>,
    /// `columns` as ranges, if the columns of every row are contiguous.
    own_ranges: Option<Vec<Range<usize>>>,
    /// For each layer, whether its map is wanted.
    pub layers: Vec<bool>,
    /// Set if a map had to be materialised although only its pooled rows were needed.
    pub formed: Cell<bool>,
}

impl Inputs {
    /// The batch for the denoiser.
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

    /// `B`, the number of evaluations.
    pub fn rows(&self) -> usize {
        self.latent_of.len()
    }

    /// For each row, the columns of its text's content tokens.
    pub fn columns(&self) -> &[Columns] {
        &self.columns
    }

    /// [`Self::columns`] as ranges; `None` unless the columns of every row are contiguous.
    pub fn own_ranges(&self) -> Option<&[Range<usize>]> {
        self.own_ranges.as_deref()
    }

    /// All tensors, in a fixed order.
    pub fn tensors(&self) -> Vec<Tensor> {
        let mut tensors = vec![];
        self.map(&mut |x| {
            tensors.push(x.shallow_clone());
            x.shallow_clone()
        });
        tensors
    }

    /// The same inputs with other tensors, taken from `tensors` in the order of [`Self::tensors`].
    pub fn with_tensors(&self, tensors: &mut dyn Iterator<Item = &Tensor>) -> Inputs {
        self.map(&mut |_| tensors.next().expect("as many tensors as `tensors` lists").shallow_clone())
    }

    /// The same inputs with every tensor passed through `f`, in a fixed order.
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Inputs {
        Inputs {
            noised: f(&self.noised),
            model_times: f(&self.model_times),
            texts: self.texts.map(&mut *f),
            latent_index: self.latent_index.map(&mut *f),
            text_index: self.text_index.map(&mut *f),
            conditions: self.conditions,
            ranges: self.ranges.as_ref().map(&mut *f),
            target: self.target.as_ref().map(&mut *f),
            error_factors: self.error_factors.as_ref().map(&mut *f),
            times: self.times.clone(),
            steps: self.steps.clone(),
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
    /// Gathers the distinct latents and texts of some evaluations, and adds noise to the latents (Eq. 3).
    pub fn inputs(&self, evaluations: &[Evaluation], prediction: bool) -> Inputs {
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
        Inputs {
            latent_index: RowIndex::new(&latent_of, &noised),
            text_index: RowIndex::new(&text_of, &texts.context),
            ranges: own_ranges.as_ref().filter(|_| counted).map(|ranges| pooling::ranges(ranges, device)),
            target: prediction.then(|| process.target(&clean, &noise, &times).index_select(0, &index(&latent_of))),
            error_factors: (prediction && self.config.denoising_target == DenoisingTarget::Noise).then(|| {
                let factors = evaluations.iter().map(|one| process.error_of_noise(encoded.times[one.step]));
                upload(&Tensor::from_slice(&factors.collect::<Vec<f64>>()), device)
            }),
            model_times: upload(&Tensor::from_slice(&model_times), device),
            conditions: encoded.conditions,
            times,
            steps: evaluations.iter().map(|one| one.step).collect(),
            noised,
            texts,
            columns,
            own_ranges,
            layers: if attention { encoded.chosen.clone() } else { vec![false; encoded.chosen.len()] },
            latent_of,
            text_of,
            context_text_of: evaluations.iter().map(|one| one.text).collect(),
            formed: Cell::new(false),
        }
    }
}

/// The distinct values in order of first use, and for each value its index among them.
fn distinct<T: Copy + Eq + Hash>(values: impl Iterator<Item = T>) -> (Vec<T>, Vec<usize>) {
    let mut unique = vec![];
    let mut index_of = HashMap::new();
    let indices = values.map(|value| {
        *index_of.entry(value).or_insert_with(|| {
            unique.push(value);
            unique.len() - 1
        })
    });
    let indices = indices.collect();
    (unique, indices)
}
