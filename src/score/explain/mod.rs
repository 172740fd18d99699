//! The contributions to a score of every token, layer, head, timestep and image position, and the attention maps.
//!
//! The score is a mean over timesteps, layers and heads of pooled maps, and a pooled map is a sum over its entries
//! ([`crate::pooling::shares`]). So the score is a sum over all of them, plus the denoising term, which belongs to no
//! token.
//!
//! Memory grows with the number of timesteps only by numbers per timestep, head and token, and by one map per timestep:
//! other maps are summed as they are formed, per layer and head at the layer's own resolution. Of the text, BOS,
//! content tokens and EOS are kept apart; the padding, most of the 77 tokens, counts as one. For Stable Diffusion 2.1
//! and a text of ten words that is 9 MB, and 0.2 MB for each timestep.

mod accumulator;
mod columns;

use tch::Tensor;

use self::accumulator::Accumulator;
use self::columns::ShownColumns;
use super::context::ScoringContext;
use super::plan::EvaluationPlan;
use super::{Request, encode, select};
use crate::config::{Layers, ScoreConfig};
use crate::denoiser::MapKind;
use crate::encode::image::view;
use crate::encode::text::Tokens;
use crate::model::{Batches, Event, Model};
use crate::noise::Time;
use crate::{Error, Result};

/// Which attention maps are shown. They may be others than those that are scored.
pub struct Maps {
    /// The kind of map: logits, probabilities or cosines.
    pub kind: MapKind,
    /// The layers whose maps are shown.
    pub layers: Layers,
}

/// A score, decomposed. The `k` tokens are, for each segment of the text: BOS, the content tokens, EOS, and the padding
/// as one token if there is any.
pub struct Explained {
    /// The text's tokens.
    pub tokens: Tokens,
    /// The times, `[steps]`.
    pub times: Vec<Time>,
    /// The part of the image that the model sees: left, top, right and bottom edge, in pixels.
    pub view: [f64; 4],
    /// The score of each timestep; their mean is the score.
    pub scores: Vec<f64>,
    /// The part of each timestep's score that the denoising term contributes; zeros if the score has none.
    pub denoising: Vec<f64>,
    /// The part of each timestep's score that the text prior contributes, `−prior_weight` times the prior; zeros if the
    /// score has none.
    pub prior: Vec<f64>,
    /// For each scored layer, the contribution of each timestep, head and token: float64 `[steps, H, k]`.
    pub contributions: Vec<(String, Tensor)>,
    /// The contribution of each token and image position, summed over timesteps, layers and heads: float64 `[k, s, s]`,
    /// where `s` is the side of the finest layer; `None` if the score has no attention term.
    pub places: Option<Tensor>,
    /// For each shown layer, the mean map over timesteps: float32 `[H, k, s, s]`; padding is represented by its mean.
    pub maps: Vec<(String, Tensor)>,
    /// For each timestep, the mean map over heads and shown layers, on the grid of the finest layer: float32
    /// `[steps, k, s, s]`.
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
    let mut sums = Accumulator::new(columns, model.layers().len(), scored * steps.len());
    let separate = maps.kind != config.map && coefficients.needs_maps();
    let total = plan.evaluations.len() + if separate { with_text.len() } else { 0 };
    // Shares are float64 and as large as a map, so a batch is smaller than for a score alone.
    let pixels = encoded.latents.size()[2..].iter().product();
    let size = config.batch_size.unwrap_or_else(|| model.auto_batch(pixels).min(8));
    let mut batches = Batches::new(model, size, pixels, total, on_progress);
    let nothing = vec![false; shown.len()];
    if separate {
        batches.run(with_text, |batch| sums.add(&context, batch, config.map, &nothing, true))?;
        batches.run(with_text, |batch| sums.add(&context, batch, maps.kind, &shown, false))?;
    } else {
        batches.run(with_text, |batch| sums.add(&context, batch, maps.kind, &shown, true))?;
    }
    batches.run(without, |batch| sums.add_unconditional(&context, batch))?;
    sums.check(&context)?;
    let priors = context.priors([0].into_iter(), &steps, |_| Ok(()))?;
    let image = image.rgb()?;
    let view = view((image.width, image.height), &model.preprocessing(config)?);
    Ok(sums.explained(&context, tokens, view, priors.get(&0)))
}
