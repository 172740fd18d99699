//! What scores are made of, before heads, layers and times are weighed.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::plan::{Evaluation, EvaluationPlan};
use super::{Coefficients, Encoded, Request, ScoringContext, encode};
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
    /// The same numbers of each text of the request without an image: their means over the null images, `[texts, …]`.
    /// `None` if the configuration has no prior.
    pub prior: Option<Box<HeadScores>>,
}

impl HeadScores {
    /// The numbers of some pairs.
    fn narrow(&self, first: usize, count: usize) -> HeadScores {
        let [start, length] = [first, count].map(|number| number as i64);
        HeadScores {
            layers: self.layers.iter().map(|(name, all)| (name.clone(), all.narrow(0, start, length))).collect(),
            denoising: self.denoising.as_ref().map(|rows| rows[first..first + count].to_vec()),
            prior: None,
        }
    }

    /// The means of every `k` pairs that follow each other.
    fn mean_of(&self, k: usize) -> HeadScores {
        let mean = |all: &Tensor| {
            let [_, steps, heads] = all.size()[..] else { unreachable!("pairs, steps and heads") };
            let by_group = all.to_kind(Kind::Double).view([-1, k as i64, steps, heads]);
            by_group.mean_dim(1, false, None).to_kind(Kind::Float)
        };
        let of_rows = |rows: &[Vec<f64>]| {
            let at = |step: usize| rows.iter().map(|row| row[step]).sum::<f64>() / k as f64;
            (0..rows[0].len()).map(at).collect()
        };
        HeadScores {
            layers: self.layers.iter().map(|(name, all)| (name.clone(), mean(all))).collect(),
            denoising: self.denoising.as_ref().map(|rows| rows.chunks(k).map(of_rows).collect()),
            prior: None,
        }
    }
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
    let config = &ScoreConfig { method, heads: Heads::Mean, ..config.clone() };
    if request.pairs.is_empty() {
        return Err(Error::Config("head_scores was given no pairs".into()));
    }
    let encoded = &encode(model, request, config)?;
    let nulls = encoded.prior.as_ref().map_or(0..0, |prior| prior.nulls.clone());
    let of_text = |text: usize| nulls.clone().map(move |null| (null, text));
    let pairs: Vec<_> = request.pairs.iter().copied().chain((0..request.texts.len()).flat_map(of_text)).collect();
    let found = of_pairs(model, &pairs, config, encoded, on_progress)?;
    if nulls.is_empty() {
        return Ok(found);
    }
    let own = request.pairs.len();
    let prior = found.narrow(own, pairs.len() - own).mean_of(nulls.len());
    Ok(HeadScores { prior: Some(Box::new(prior)), ..found.narrow(0, own) })
}

/// The numbers of some pairs of a request's images, null images included, and texts.
fn of_pairs(
    model: &Model,
    pairs: &[(usize, usize)],
    config: &ScoreConfig,
    encoded: &Encoded,
    on_progress: impl FnMut(Event) -> Result<()>,
) -> Result<HeadScores> {
    let context = ScoringContext::new(model, config, encoded);
    let coefficients = context.coefficients();
    let steps: Vec<usize> = (0..encoded.times.len()).collect();
    let no_text = coefficients.needs_empty().then_some(encoded.no_text);
    let plan = EvaluationPlan::new(pairs, &steps, no_text);
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
    let wanted: Vec<Evaluation> = (pairs.iter())
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
    let [count, times] = [pairs.len(), steps.len()].map(|count| count as i64);
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
        layers.push((layer.name.clone(), numbers.view([count, times, layer.heads])));
    }
    let by_pair = |all: Vec<f64>| all.chunks(steps.len()).map(<[f64]>::to_vec).collect();
    Ok(HeadScores { layers, denoising: denoising.map(by_pair), prior: None })
}
