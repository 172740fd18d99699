//! One evaluation of the denoiser with its maps, its prediction and its inputs.

use tch::{Kind, Tensor};

use super::{noise_or_given, select};
use crate::Result;
use crate::config::{Layers, ScoreConfig, Times};
use crate::denoiser::{Batch, Capture, MapKind};
use crate::encode::image::Image;
use crate::encode::text::Tokens;
use crate::model::Model;

/// What to observe.
pub struct ObserveRequest<'a> {
    /// The image, to which noise is added.
    pub image: &'a Image,
    /// The text that the network is conditioned on.
    pub text: &'a str,
    /// A time of the model's process.
    pub time: f64,
    /// The layers whose maps are wanted; no maps if `None`.
    pub layers: Option<&'a Layers>,
    /// The kind of map: logits, probabilities or cosines.
    pub map: MapKind,
    /// Whether the prediction is wanted.
    pub prediction: bool,
    /// float32 `[C, h, w]` that replaces the seeded noise.
    pub noise: Option<Tensor>,
}

/// One evaluation of the denoiser; tensors are float32.
pub struct Observation {
    /// Layer names and maps `[H, n, m]`, in forward order.
    pub maps: Vec<(String, Tensor)>,
    /// The prediction `[C, h, w]`, if it was wanted.
    pub prediction: Option<Tensor>,
    /// `z_t`, `[C, h, w]`.
    pub noised: Tensor,
    /// `z`, `[C, h, w]`.
    pub clean: Tensor,
    /// `ε`, `[C, h, w]`.
    pub noise: Tensor,
    /// The text's tokens, which label the columns of the maps.
    pub tokens: Tokens,
}

/// See [`Model::observe`].
pub fn observe(model: &Model, request: &ObserveRequest, config: &ScoreConfig) -> Result<Observation> {
    let process = model.process();
    let times = process.at(&[request.time], "timestep")?;
    let layers = match request.layers {
        None => vec![false; model.layers().len()],
        Some(layers) => select::layers(model.layers(), layers)?,
    };
    // The noise is that of the requested time, not of the configuration's times.
    let config = ScoreConfig { times: Times::Timesteps(vec![request.time]), ..config.clone() };
    let noise = noise_or_given(model, &config, request.noise.as_ref().map(|noise| noise.unsqueeze(0)).as_ref())?;
    let clean = model.encode_images(std::slice::from_ref(request.image), &config)?;
    let texts = model.encode_texts(&[request.text], config.truncate)?;
    let noised = process.add_noise(&clean, &noise, &times);
    let keep = |_: usize, map: &Tensor| map.shallow_clone();
    let capture = Capture { prediction: request.prediction, ..Capture::maps(&layers, request.map, &keep) };
    let input = noised.to_kind(model.kind());
    let time = Tensor::from_slice(&[process.model_time(times[0])]).to_device(model.device());
    let batch = Batch::new(&input, &time, &texts.conditioning, &[0], &[0], model.conditions(&config)?);
    let seen = model.denoiser().observe(&batch, model.patch(), &capture)?;
    for (layer, map) in &seen.maps {
        model.finite(&format!("the attention of layer {}", model.layers()[*layer].name), map)?;
    }
    if let Some(prediction) = &seen.prediction {
        model.finite("the denoiser's last layers", prediction)?;
    }
    let named = |(layer, map): &(usize, Tensor)| (model.layers()[*layer].name.clone(), map.squeeze_dim(0));
    Ok(Observation {
        maps: seen.maps.iter().map(named).collect(),
        prediction: seen.prediction.map(|prediction| prediction.squeeze_dim(0).to_kind(Kind::Float)),
        noised: noised.squeeze_dim(0),
        clean: clean.squeeze_dim(0),
        noise: noise.squeeze_dim(0),
        tokens: texts.tokens.into_iter().next().expect("one text gives one row of tokens"),
    })
}
