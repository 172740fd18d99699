//! One evaluation, looked at in full.

use tch::{Kind, Tensor};

use super::{noise_or_given, select};
use crate::Result;
use crate::config::{Layers, ScoreConfig, Times};
use crate::denoiser::{Batch, Capture, MapKind};
use crate::encode::image::Image;
use crate::encode::text::Tokens;
use crate::model::Model;

/// What to look at.
pub struct ObserveRequest<'a> {
    pub image: &'a Image,
    pub text: &'a str,
    /// A time of the model's process.
    pub time: f64,
    /// The layers whose maps are wanted; none if `None`.
    pub layers: Option<&'a Layers>,
    pub map: MapKind,
    pub prediction: bool,
    /// float32 `[C, h, w]` in place of the seeded noise.
    pub noise: Option<Tensor>,
}

/// What was seen; tensors are float32.
pub struct Observation {
    /// Layer names and maps `[H, n, m]`, in forward order.
    pub maps: Vec<(String, Tensor)>,
    /// `[C, h, w]`, if it was wanted.
    pub prediction: Option<Tensor>,
    /// `z_t`, `[C, h, w]`.
    pub noised: Tensor,
    /// `z`, `[C, h, w]`.
    pub clean: Tensor,
    /// `ε`, `[C, h, w]`.
    pub noise: Tensor,
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
    // Whatever the configuration's own times are, the noise is that of this one.
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
