//! Appendix E: images and texts as vectors of one space, whose cosine measures how well they match.
//!
//! The paper takes "the latent space features after the VAE" for an image and compares them with "text embeddings",
//! without saying how a text of `m` vectors is mapped to the space of latents. Here the fine-tuned network maps it: the
//! vector of a text is the mean clean latent that the network predicts from noise alone,
//! `mean over ε of ẑ(√(1−ᾱ_t)·ε, t, τ(y))`. So training, which changes the network only, changes the vectors of texts.

use tch::{Kind, Tensor};

use super::plan::Evaluation;
use super::{Encoded, ScoringContext, text_cache};
use crate::Result;
use crate::config::{Method, ScoreConfig};
use crate::denoiser::Capture;
use crate::device::upload;
use crate::encode::text::Tokens;
use crate::model::{Batches, Event, Model};
use crate::noise::{self, Time};

/// The noise level at which a text is embedded. At 1 the input surely holds no image, but a clean latent computed from
/// a predicted noise is inaccurate (1/√ᾱ is 15 in Stable Diffusion). On the pocket model, 0.7 to 1 are equally good.
const LEVEL: f64 = 0.85;
/// Draws of noise that are averaged; eight times as many change accuracies by less than their confidence interval.
const DRAWS: usize = 8;

/// See [`Model::embed_texts`].
pub fn texts(
    model: &Model,
    texts: &[&str],
    config: &ScoreConfig,
    on_progress: impl FnMut(Event) -> Result<()>,
) -> Result<Tensor> {
    let shape = model.latent_shape(config)?;
    let time = model.process().at_level(LEVEL);
    let draws = (0..DRAWS).map(|draw| noise::draw(config.seed, time, draw as u32, shape));
    let noise = upload(&Tensor::stack(&draws.collect::<Vec<_>>(), 0), model.device());
    let read = model.encode_texts(texts, config.truncate)?;
    let without_maps = ScoreConfig { method: Method::Denoising, ..config.clone() };
    let encoded = Encoded {
        latents: noise.narrow(0, 0, 1).zeros_like(),
        times: vec![time; DRAWS],
        columns: read.tokens.iter().map(Tokens::own_columns).collect(),
        cache: text_cache(model, &read.conditioning),
        texts: read.conditioning,
        chosen: vec![false; model.layers().len()],
        no_text: texts.len(),
        learned: model.layers().iter().map(|_| None).collect(),
        denoising: vec![1.0; DRAWS],
        conditions: model.conditions(config)?,
        noise,
        prior: None,
    };
    let context = ScoringContext::new(model, &without_maps, &encoded);
    let evaluations: Vec<Evaluation> =
        (0..texts.len()).flat_map(|text| (0..DRAWS).map(move |step| Evaluation { image: 0, text, step })).collect();
    let pixels = shape[1] * shape[2];
    let size = config.batch_size.unwrap_or_else(|| model.auto_batch(pixels));
    let mut sums = Tensor::zeros([texts.len() as i64, shape[0] * pixels], (Kind::Float, model.device()));
    Batches::new(model, size, pixels, evaluations.len(), on_progress).run(&evaluations, |evaluations| {
        let latents = expected(&context, evaluations, time)?.flatten(1, -1);
        let rows: Vec<i64> = evaluations.iter().map(|one| one.text as i64).collect();
        let rows = upload(&Tensor::from_slice(&rows), model.device());
        let _ = sums.index_add_(0, &rows, &latents);
        Ok(())
    })?;
    model.finite("the denoiser, asked what a text looks like,", &sums)?;
    Ok(normalized(&sums))
}

/// The clean latents `ẑ` `[B, C, h, w]` that the network predicts from noise alone, `x = √(1−ᾱ)·ε`.
fn expected(context: &ScoringContext, evaluations: &[Evaluation], time: Time) -> Result<Tensor> {
    let inputs = context.inputs(evaluations, false);
    let batch = inputs.batch(context.encoded.cache.as_deref());
    let seen = context.model.denoiser().observe(&batch, context.patch, &Capture::prediction(&inputs.layers))?;
    let predicted = seen.prediction.expect("it was wanted").to_kind(Kind::Float);
    let steps: Vec<i64> = evaluations.iter().map(|one| one.step as i64).collect();
    let steps = upload(&Tensor::from_slice(&steps), context.model.device());
    let noise = context.encoded.noise.index_select(0, &steps);
    Ok(context.model.process().clean_of_noise(&noise, &predicted, time))
}

/// Each entry of `[n, …]` as a vector of length 1, float32 `[n, D]`.
pub fn normalized(x: &Tensor) -> Tensor {
    let flat = x.to_kind(Kind::Float).flatten(1, -1);
    &flat / flat.norm_scalaropt_dim(2, [1].as_slice(), true).clamp_min(f64::from(f32::MIN_POSITIVE))
}
