//! The sums that an explanation is made of, batch by batch.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use super::Explained;
use super::columns::ShownColumns;
use crate::Result;
use crate::denoiser::{Capture, MapKind};
use crate::device::to_vec64;
use crate::encode::text::Tokens;
use crate::model::is_finite;
use crate::score::context::{EvaluationOutput, ScoringContext};
use crate::score::grid::{as_grids, smooth, spread};
use crate::score::layer::{layer_score, layer_shares};
use crate::score::plan::Evaluation;

/// The numbers and maps of all finished batches. A batch is added when it is complete, or not at all.
pub struct Accumulator {
    columns: ShownColumns,
    /// Number of layers times number of steps: the score is a mean over them.
    terms: f64,
    attention: Vec<f64>,
    errors: Vec<f64>,
    empty: Vec<f64>,
    layers: Vec<LayerSums>,
    /// float32 `[B, k, s, s]` of each batch.
    by_timestep: Vec<Tensor>,
}

/// What one layer contributes: of one batch while it runs, of all finished batches in an [`Accumulator`].
#[derive(Default)]
struct LayerSums {
    /// float64 `[B, H, k]` of each batch.
    contributions: Vec<Tensor>,
    /// float64 `[n, k]`, summed over timesteps and heads.
    places: Option<Tensor>,
    /// float32 `[H, n, k]`, summed over timesteps.
    maps: Option<Tensor>,
    /// float32 `[B, n, k]` of the running batch, the mean over heads.
    rows: Option<Tensor>,
}

impl Accumulator {
    /// Without any batch yet, for a model of `layers` layers; see the field for `terms`.
    pub fn new(columns: ShownColumns, layers: usize, terms: usize) -> Self {
        Accumulator {
            columns,
            terms: terms as f64,
            attention: vec![],
            errors: vec![],
            empty: vec![],
            layers: (0..layers).map(|_| LayerSums::default()).collect(),
            by_timestep: vec![],
        }
    }

    /// Runs evaluations with the text: records maps of `kind` at the layers `shown` and, if `scored`, the contributions
    /// to the score.
    pub fn add(
        &mut self,
        context: &ScoringContext,
        evaluations: &[Evaluation],
        kind: MapKind,
        shown: &[bool],
        scored: bool,
    ) -> Result<()> {
        let config = context.config;
        let prediction = scored && context.coefficients().needs_prediction();
        let inputs = context.inputs(evaluations, prediction);
        let counts = |layer: usize| scored && inputs.layers[layer];
        let weights = if scored { context.head_weights(&inputs)? } else { vec![] };
        let batch: RefCell<Vec<LayerSums>> = RefCell::new((0..shown.len()).map(|_| LayerSums::default()).collect());
        let keep = |layer: usize, map: &Tensor| {
            let sums = &mut batch.borrow_mut()[layer];
            if shown[layer] {
                let map = self.columns.of_map(map);
                sums.maps = Some(map.sum_dim_intlist(0, false, Kind::Float));
                sums.rows = Some(map.mean_dim(1, false, Kind::Float));
            }
            if !counts(layer) {
                return Tensor::new();
            }
            let given = weights[layer].as_ref();
            let map = &context.exact(map);
            let shares = layer_shares(map, inputs.columns(), config, given) / self.terms;
            let shares = self.columns.of_shares(&shares);
            sums.contributions.push(shares.sum_dim_intlist(2, false, None));
            sums.places = Some(shares.sum_dim_intlist([0, 1].as_slice(), false, None));
            layer_score(map, inputs.columns(), config, given)
        };
        let layers: Vec<bool> = (0..shown.len()).map(|layer| shown[layer] || counts(layer)).collect();
        let capture = Capture { prediction, ..Capture::maps(&layers, kind, &keep) };
        let mut captured = context.model.denoiser().observe(
            &inputs.batch(context.encoded.cache.as_deref()),
            context.patch,
            &capture,
        )?;
        captured.maps.retain(|(layer, _)| counts(*layer));
        let output = scored.then(|| context.rows(&inputs, &captured));
        self.append(batch.into_inner(), output.as_ref());
        Ok(())
    }

    /// Adds a finished batch. Whatever may run out of memory comes before the first change.
    fn append(&mut self, mut batch: Vec<LayerSums>, output: Option<&EvaluationOutput>) {
        let by_timestep = mean_over_layers(&mut batch);
        for (new, old) in batch.iter_mut().zip(&self.layers) {
            new.maps = sum(&old.maps, new.maps.take());
            new.places = sum(&old.places, new.places.take());
        }
        let numbers = |tensor: &Option<Tensor>| tensor.as_ref().map(to_vec64).unwrap_or_default();
        let attention = output.map(|output| numbers(&output.attention)).unwrap_or_default();
        let errors = output.map(|output| numbers(&output.error)).unwrap_or_default();

        self.attention.extend(attention);
        self.errors.extend(errors);
        self.by_timestep.extend(by_timestep);
        for (old, new) in self.layers.iter_mut().zip(batch) {
            old.contributions.extend(new.contributions);
            (old.maps, old.places) = (new.maps, new.places);
        }
    }

    /// Runs evaluations without a text, whose errors are compared with those with the text.
    pub fn add_unconditional(&mut self, context: &ScoringContext, evaluations: &[Evaluation]) -> Result<()> {
        let errors = context.evaluate(evaluations, true)?.error;
        self.empty.extend(errors.iter().flat_map(to_vec64));
        Ok(())
    }

    /// Refuses a score, or a shown map, with numbers that are not finite.
    pub fn check(&self, context: &ScoringContext) -> Result<()> {
        let maps_are_finite = self.by_timestep.iter().all(is_finite);
        for step in 0..context.encoded.times.len() {
            let numbers = [&self.attention, &self.errors, &self.empty].map(|values| at(values, step));
            let total = if maps_are_finite { numbers.iter().sum() } else { f64::NAN };
            context.check(Evaluation { image: 0, text: 0, step }, total)?;
        }
        Ok(())
    }

    /// The explanation, after the last batch; `prior` is that of the text at each step.
    pub fn explained(
        self,
        context: &ScoringContext,
        tokens: Tokens,
        view: [f64; 4],
        prior: Option<&Vec<f64>>,
    ) -> Explained {
        let steps = context.encoded.times.len();
        let coefficients = context.coefficients();
        let denoising: Vec<f64> = (0..steps)
            .map(|step| context.coefficients_at(step).denoising(at(&self.errors, step), at(&self.empty, step)))
            .collect();
        let prior: Vec<f64> = match prior {
            Some(prior) => prior.iter().map(|prior| -context.config.prior_weight * prior).collect(),
            None => vec![0.0; steps],
        };
        let scores = (0..steps)
            .map(|step| coefficients.attention * at(&self.attention, step) + denoising[step] + prior[step])
            .collect();

        let name = |layer: usize| context.model.layers()[layer].name.clone();
        let (mut contributions, mut maps, mut places) = (vec![], vec![], vec![]);
        for (layer, sums) in self.layers.into_iter().enumerate() {
            if !sums.contributions.is_empty() {
                contributions.push((name(layer), Tensor::cat(&sums.contributions, 0)));
            }
            maps.extend(sums.maps.map(|map| (name(layer), as_grids(&(map / steps as f64)))));
            places.extend(sums.places.map(|places| as_grids(&places)));
        }
        let finest = places.iter().map(|grid| grid.size()[2]).max();
        let places = finest.map(|finest| {
            let spread: Vec<Tensor> = places.iter().map(|grid| spread(grid, finest)).collect();
            Tensor::stack(&spread, 0).sum_dim_intlist(0, false, Kind::Double)
        });
        Explained {
            tokens,
            times: context.encoded.times.clone(),
            view,
            scores,
            denoising,
            prior,
            contributions,
            places,
            maps,
            by_timestep: Tensor::cat(&self.by_timestep, 0),
        }
    }
}

/// The mean of a batch's maps over heads and layers on the grid of the finest layer, `[B, k, s, s]` on the CPU.
fn mean_over_layers(batch: &mut [LayerSums]) -> Option<Tensor> {
    let grids: Vec<Tensor> =
        batch.iter_mut().filter_map(|layer| layer.rows.take()).map(|rows| as_grids(&rows)).collect();
    let finest = grids.iter().map(|grid| grid.size()[3]).max()?;
    let on_grid: Vec<Tensor> = grids.iter().map(|grid| smooth(grid, finest)).collect();
    Some(Tensor::stack(&on_grid, 0).mean_dim(0, false, None).to_device(Device::Cpu))
}

/// The sum of two tensors that may be absent.
fn sum(old: &Option<Tensor>, new: Option<Tensor>) -> Option<Tensor> {
    match (old, new) {
        (Some(old), Some(new)) => Some(old + new),
        (None, new) => new,
        (Some(old), None) => Some(old.shallow_clone()),
    }
}

/// The value of a step, or 0 where there is none.
fn at(values: &[f64], step: usize) -> f64 {
    values.get(step).copied().unwrap_or(0.0)
}
