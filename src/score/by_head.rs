//! What scores are made of, before heads, layers and times are weighed.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::plan::{Evaluation, EvaluationPlan};
use super::{Coefficients, Request, ScoringContext, encode};
use crate::config::{Heads, Method, ScoreConfig};
use crate::device::to_vec64;
use crate::model::{Batches, Event, Model, is_finite};
use crate::{Error, Result};

/// The numbers of pairs of images and texts that a score weighs.
pub struct HeadScores {
    /// For each scored layer in forward order, its name and the pooled maps of its heads, float32 `[pairs, steps, H]` on
    /// the CPU. Empty if the score has no attention term.
    pub layers: Vec<(String, Tensor)>,
    /// The denoising term of each pair at each time, `[pairs][steps]`, unweighted; `None` if the score has none.
    pub denoising: Option<Vec<Vec<f64>>>,
}

/// See [`Model::head_scores`].
pub fn head_scores(
    model: &Model,
    request: &Request,
    config: &ScoreConfig,
    on_progress: impl FnMut(Event) -> Result<()>,
) -> Result<HeadScores> {
    // No weights are applied, so none are computed.
    let method = if config.method == Method::Calibrated { Method::Combined } else { config.method };
    let config = &ScoreConfig { method, heads: Heads::Mean, prior: None, ..config.clone() };
    if request.pairs.is_empty() {
        return Err(Error::Config("head_scores was given no pairs".into()));
    }
    let encoded = &encode(model, request, config)?;
    let context = ScoringContext::new(model, config, encoded);
    let coefficients = context.coefficients();
    let steps: Vec<usize> = (0..encoded.times.len()).collect();
    let no_text = coefficients.needs_empty().then_some(encoded.no_text);
    let plan = EvaluationPlan::new(request.pairs, &steps, no_text);
    let pixels = encoded.latents.size()[2..].iter().product();
    let size = config.batch_size.unwrap_or_else(|| model.auto_batch(pixels));
    let mut batches = Batches::new(model, size, pixels, plan.evaluations.len(), on_progress);
    let [with_text, without] = plan.parts();

    // Of each batch, the pooled maps by layer, which are joined in the end.
    let mut by_batch: Vec<Vec<Tensor>> = vec![];
    let mut errors: HashMap<Evaluation, f64> = HashMap::new();
    let mut add = |evaluations: &[Evaluation], error: Option<Tensor>| {
        errors.extend(error.iter().flat_map(|error| evaluations.iter().copied().zip(to_vec64(error))));
    };
    batches.run(with_text, |evaluations| {
        let (layers, error) = context.by_head(evaluations, coefficients.needs_prediction())?;
        by_batch.push(layers.iter().map(|layer| layer.to_kind(Kind::Float).to_device(Device::Cpu)).collect());
        add(evaluations, error);
        Ok(())
    })?;
    batches.run(without, |evaluations| {
        add(evaluations, context.evaluate(evaluations, true)?.error);
        Ok(())
    })?;

    let row_of: HashMap<Evaluation, i64> = with_text.iter().copied().zip(0..).collect();
    let wanted: Vec<Evaluation> = (request.pairs.iter())
        .flat_map(|&(image, text)| steps.iter().map(move |&step| Evaluation { image, text, step }))
        .collect();
    let alone = Coefficients::new(&ScoreConfig { method: Method::Denoising, ..config.clone() }, None);
    let denoising = |&at: &Evaluation| {
        let empty = no_text.map_or(0.0, |text| errors[&Evaluation { text, ..at }]);
        let term = alone.denoising(errors[&at], empty);
        context.check(at, term).map(|()| term)
    };
    let denoising = match coefficients.needs_prediction() {
        true => Some(wanted.iter().map(denoising).collect::<Result<Vec<f64>>>()?),
        false => None,
    };
    let [pairs, times] = [request.pairs.len(), steps.len()].map(|count| count as i64);
    let rows = Tensor::from_slice(&wanted.iter().map(|at| row_of[at]).collect::<Vec<_>>());
    let scored = model.layers().iter().zip(&encoded.chosen).filter(|(_, chosen)| **chosen && coefficients.needs_maps());
    let mut layers = vec![];
    for (place, (layer, _)) in scored.enumerate() {
        let parts: Vec<&Tensor> = by_batch.iter().map(|batch| &batch[place]).collect();
        let numbers = Tensor::cat(&parts, 0).index_select(0, &rows);
        if !is_finite(&numbers) {
            let row = (0..wanted.len()).find(|&row| !is_finite(&numbers.get(row as i64)));
            return Err(context.diagnose(wanted[row.expect("a number that is not finite is in a row")]));
        }
        layers.push((layer.name.clone(), numbers.view([pairs, times, layer.heads])));
    }
    let by_pair = |all: Vec<f64>| all.chunks(steps.len()).map(<[f64]>::to_vec).collect();
    Ok(HeadScores { layers, denoising: denoising.map(by_pair) })
}
