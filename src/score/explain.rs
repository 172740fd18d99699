//! Where a score comes from: what every token, layer, head, timestep and place adds to it, and the attention maps.
//!
//! The score is a mean over timesteps, layers and heads of pooled maps, and a pooled map is a sum over its entries
//! ([`crate::pooling::shares`]); so it is a sum over all of them, plus the denoising term, which belongs to no token.
//!
//! Nothing grows with the number of timesteps but numbers by timestep, head and token, and one map a timestep: the
//! maps themselves are added up as they are formed, per layer and head at the layer's own resolution. Of the text,
//! BOS, own tokens and EOS are kept apart; the padding, most of the 77 tokens, counts as one. For Stable Diffusion
//! 2.1 with ten words that is 9 MB, and 0.2 MB for each timestep.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use super::context::ScoringContext;
use super::finite::is_finite;
use super::grid::{pictures, smooth, spread};
use super::layer::{layer_score, layer_shares};
use super::plan::{Evaluation, EvaluationPlan};
use super::{Request, encode, select};
use crate::config::{Layers, ScoreConfig, TokenSet};
use crate::denoiser::{Capture, Captured, MapKind};
use crate::device::to_vec64;
use crate::encode::image::view;
use crate::encode::text::{Columns, Tokens};
use crate::encode::tokenizer::Encoding;
use crate::model::{Batches, Event, Model};
use crate::noise::Time;
use crate::{Error, Result};

/// Which attention maps are shown; the score's own may be others.
pub struct Maps {
    pub kind: MapKind,
    pub layers: Layers,
}

/// A score taken apart. `k` are the text's tokens, segment by segment: BOS, its own, EOS, and the
/// padding as one if there is any.
pub struct Explained {
    pub tokens: Tokens,
    pub times: Vec<Time>,
    /// What the model saw of the image: left, top, right and bottom edge in pixels.
    pub view: [f64; 4],
    /// By timestep; their mean is the score.
    pub scores: Vec<f64>,
    /// By timestep, what the denoising term adds to the score; zeros without one.
    pub denoising: Vec<f64>,
    /// By layer of the score, what each timestep, head and token adds: float64 `[steps, H, k]`.
    pub contributions: Vec<(String, Tensor)>,
    /// The same by token and place, over all timesteps, layers and heads: float64 `[k, s, s]`, `s` the side of the
    /// finest layer; none without attention in the score.
    pub places: Option<Tensor>,
    /// By layer shown, the mean over timesteps: float32 `[H, k, s, s]`, padding by its mean.
    pub maps: Vec<(String, Tensor)>,
    /// By timestep, the mean over heads and layers shown, on the grid of the finest: float32 `[steps, k, s, s]`.
    pub by_timestep: Tensor,
}

/// See [`Model::explain`].
pub fn explain(
    model: &Model,
    request: &Request,
    maps: &Maps,
    config: &ScoreConfig,
    on_progress: impl FnMut(Event) -> Result<()>,
) -> Result<Explained> {
    let ([image], [text]) = (request.images, request.texts) else {
        return Err(Error::Config("explain takes one image and one text".into()));
    };
    let encoded = &encode(model, request, config)?;
    let context = ScoringContext::new(model, config, encoded);
    let shown = select::layers(model.layers(), &maps.layers)?;
    let tokens = model.tokenize(text, config.truncate)?;
    let steps: Vec<usize> = (0..encoded.times.len()).collect();
    let coefficients = context.coefficients();
    let plan = EvaluationPlan::new(&[(0, 0)], &steps, coefficients.needs_empty().then_some(encoded.no_text));
    let [with_text, without] = plan.parts();

    let columns = ShownColumns::new(&tokens, model.columns(), config.tokens);
    let scored = encoded.chosen.iter().filter(|&&chosen| chosen).count();
    let mut found = Found::new(columns, model.layers().len(), scored * steps.len());
    let apart = maps.kind != config.map && coefficients.needs_maps();
    let total = plan.evaluations.len() + if apart { with_text.len() } else { 0 };
    // Shares are float64 and as large as a map: fewer evaluations at a time than for a score alone.
    let pixels = encoded.latents.size()[2..].iter().product();
    let size = config.batch_size.unwrap_or_else(|| model.auto_batch(pixels).min(8));
    let mut batches = Batches::new(model, size, pixels, total, on_progress);
    let nothing = vec![false; shown.len()];
    if apart {
        batches.run(with_text, |some| found.look(&context, some, config.map, &nothing, true))?;
        batches.run(with_text, |some| found.look(&context, some, maps.kind, &shown, false))?;
    } else {
        batches.run(with_text, |some| found.look(&context, some, maps.kind, &shown, true))?;
    }
    batches.run(without, |some| found.predict(&context, some))?;
    found.check(&context)?;
    let image = image.rgb()?;
    let view = view((image.width, image.height), &model.preprocessing(config)?);
    Ok(found.explained(&context, tokens, view))
}

/// Which of the `m` columns are shown one by one: of each segment BOS, own tokens and EOS, and the padding as one.
struct ShownColumns {
    /// By segment, the first column, the first of the padding, and the first behind it.
    segments: Vec<[i64; 3]>,
    own: Columns,
    m: usize,
    counted: TokenSet,
}

impl ShownColumns {
    fn new(tokens: &Tokens, m: usize, counted: TokenSet) -> Self {
        let segment = |(encoding, start): (&Encoding, usize)| {
            [start, start + encoding.content.end + 1, start + encoding.ids.len()].map(|at| at as i64)
        };
        ShownColumns { segments: tokens.by_segment().map(segment).collect(), own: tokens.own_columns(), m, counted }
    }

    /// `[…, m]` to `[…, k]`, the padding by `one`.
    fn apart(&self, x: &Tensor, one: impl Fn(&Tensor) -> Tensor) -> Tensor {
        let mut parts = vec![];
        for &[start, padding, end] in &self.segments {
            parts.push(x.narrow(-1, start, padding - start));
            if end > padding {
                parts.push(one(&x.narrow(-1, padding, end - padding)));
            }
        }
        match &parts[..] {
            [all] => all.shallow_clone(),
            _ => Tensor::cat(&parts, -1),
        }
    }

    /// Maps by token, the padding by its mean.
    fn of_map(&self, map: &Tensor) -> Tensor {
        self.apart(map, |padding| padding.mean_dim(-1, true, None))
    }

    /// Shares by token, the padding by its sum; tokens that do not count add nothing.
    fn of_shares(&self, shares: &Tensor) -> Tensor {
        let sum = |padding: &Tensor| padding.sum_dim_intlist(-1, true, None);
        match self.counted {
            TokenSet::All => self.apart(shares, sum),
            TokenSet::Content => self.apart(&self.own.among_zeros(shares, self.m), sum),
        }
    }
}

/// What was found so far. A batch adds to it when it is done, or not at all.
struct Found {
    columns: ShownColumns,
    /// Number of layers and times that the score is a mean over.
    terms: f64,
    attention: Vec<f64>,
    errors: Vec<f64>,
    empty: Vec<f64>,
    layers: Vec<OfLayer>,
    /// `[B, k, s, s]` a batch.
    by_timestep: Vec<Tensor>,
}

/// Of one layer; what a batch saw of it, or the sum of what all did.
#[derive(Default)]
struct OfLayer {
    /// `[B, H, k]`, one a batch.
    contributions: Vec<Tensor>,
    /// `[n, k]`
    places: Option<Tensor>,
    /// `[H, n, k]`, summed over timesteps.
    maps: Option<Tensor>,
    /// `[B, n, k]`, the mean over heads.
    rows: Option<Tensor>,
}

impl Found {
    fn new(columns: ShownColumns, layers: usize, terms: usize) -> Self {
        Found {
            columns,
            terms: terms as f64,
            attention: vec![],
            errors: vec![],
            empty: vec![],
            layers: (0..layers).map(|_| OfLayer::default()).collect(),
            by_timestep: vec![],
        }
    }

    /// Evaluations with the text: maps of `kind` at the layers `shown`, and with `scored` the score's parts.
    fn look(
        &mut self,
        context: &ScoringContext,
        evaluations: &[Evaluation],
        kind: MapKind,
        shown: &[bool],
        scored: bool,
    ) -> Result<()> {
        let config = context.config;
        let prediction = scored && context.coefficients().needs_prediction();
        let inputs = context.inputs(evaluations, prediction)?;
        let counts = |layer: usize| scored && inputs.layers[layer];
        let weights = if scored { context.head_weights(&inputs)? } else { vec![] };
        let seen: RefCell<Vec<OfLayer>> = RefCell::new((0..shown.len()).map(|_| OfLayer::default()).collect());
        let keep = |layer: usize, map: &Tensor| {
            let seen = &mut seen.borrow_mut()[layer];
            if shown[layer] {
                let map = self.columns.of_map(map);
                seen.maps = Some(map.sum_dim_intlist(0, false, Kind::Float));
                seen.rows = Some(map.mean_dim(1, false, Kind::Float));
            }
            if !counts(layer) {
                return Tensor::new();
            }
            let given = weights[layer].as_ref();
            let shares = layer_shares(map, inputs.columns(), config, given) / self.terms;
            let shares = self.columns.of_shares(&shares);
            seen.contributions.push(shares.sum_dim_intlist(2, false, None));
            seen.places = Some(shares.sum_dim_intlist([0, 1].as_slice(), false, None));
            layer_score(map, inputs.columns(), config, given)
        };
        let layers: Vec<bool> = (0..shown.len()).map(|layer| shown[layer] || counts(layer)).collect();
        let capture = Capture { prediction, ..Capture::maps(&layers, kind, &keep) };
        let mut found = context.model.denoiser().observe(
            &inputs.batch(context.encoded.cache.as_deref()),
            context.patch,
            &capture,
        )?;
        let mut seen = seen.into_inner();

        let pictures_of = seen.iter_mut().filter_map(|layer| layer.rows.take()).map(|rows| pictures(&rows));
        let pictures_of: Vec<Tensor> = pictures_of.collect();
        let finest = pictures_of.iter().map(|picture| picture.size()[3]).max();
        let by_timestep = finest.map(|finest| {
            let on_grid: Vec<Tensor> = pictures_of.iter().map(|picture| smooth(picture, finest)).collect();
            Tensor::stack(&on_grid, 0).mean_dim(0, false, None).to_device(Device::Cpu)
        });
        let sum = |old: &Option<Tensor>, new: Option<Tensor>| match (old, new) {
            (Some(old), Some(new)) => Some(old + new),
            (None, new) => new,
            (Some(old), None) => Some(old.shallow_clone()),
        };
        for (layer, old) in seen.iter_mut().zip(&self.layers) {
            layer.maps = sum(&old.maps, layer.maps.take());
            layer.places = sum(&old.places, layer.places.take());
        }
        found.maps.retain(|(layer, _)| counts(*layer));
        let rows = scored.then(|| context.rows(&inputs, &Captured { maps: found.maps, prediction: found.prediction }));

        if let Some(rows) = rows {
            self.attention.extend(rows.attention.iter().flat_map(to_vec64));
            self.errors.extend(rows.error.iter().flat_map(to_vec64));
        }
        self.by_timestep.extend(by_timestep);
        for (old, new) in self.layers.iter_mut().zip(seen) {
            old.contributions.extend(new.contributions);
            (old.maps, old.places) = (new.maps, new.places);
        }
        Ok(())
    }

    /// Evaluations without a text, which denoising errors are compared with.
    fn predict(&mut self, context: &ScoringContext, evaluations: &[Evaluation]) -> Result<()> {
        let errors = context.evaluate(evaluations, true)?.error;
        self.empty.extend(errors.iter().flat_map(to_vec64));
        Ok(())
    }

    /// Refuses what is not finite in a score or in a map that is shown.
    fn check(&self, context: &ScoringContext) -> Result<()> {
        let maps = self.by_timestep.iter().all(is_finite);
        for step in 0..context.encoded.times.len() {
            let numbers = [&self.attention, &self.errors, &self.empty].map(|of| of.get(step).copied().unwrap_or(0.0));
            let whole = if maps { numbers.iter().sum() } else { f64::NAN };
            context.check(Evaluation { image: 0, text: 0, step }, whole)?;
        }
        Ok(())
    }

    fn explained(self, context: &ScoringContext, tokens: Tokens, view: [f64; 4]) -> Explained {
        let steps = context.encoded.times.len();
        let coefficients = context.coefficients();
        let at = |values: &[f64], step: usize| values.get(step).copied().unwrap_or(0.0);
        let helps = (0..steps).map(|step| coefficients.denoising(at(&self.errors, step), at(&self.empty, step)));
        let denoising: Vec<f64> = helps.collect();
        let scores =
            (0..steps).map(|step| coefficients.attention * at(&self.attention, step) + denoising[step]).collect();

        let name = |layer: usize| context.model.layers()[layer].name.clone();
        let (mut contributions, mut maps, mut places) = (vec![], vec![], vec![]);
        for (layer, found) in self.layers.into_iter().enumerate() {
            if !found.contributions.is_empty() {
                contributions.push((name(layer), Tensor::cat(&found.contributions, 0)));
            }
            maps.extend(found.maps.map(|map| (name(layer), pictures(&(map / steps as f64)))));
            places.extend(found.places.map(|place| pictures(&place)));
        }
        let finest = places.iter().map(|place| place.size()[2]).max();
        let places = finest.map(|finest| {
            let spread: Vec<Tensor> = places.iter().map(|place| spread(place, finest)).collect();
            Tensor::stack(&spread, 0).sum_dim_intlist(0, false, Kind::Double)
        });
        Explained {
            tokens,
            times: context.encoded.times.clone(),
            view,
            scores,
            denoising,
            contributions,
            places,
            maps,
            by_timestep: Tensor::cat(&self.by_timestep, 0),
        }
    }
}
