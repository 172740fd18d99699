//! One evaluation, looked at in full.

use tch::{Kind, Tensor};

use super::Model;
use crate::backbone::{Batch, MapKind, Wanted};
use crate::config::ScoreConfig;
use crate::encode::image::Image;
use crate::encode::tokenizer::Tokens;
use crate::{Error, Result};

/// What to look at.
pub struct Look<'a> {
    pub image: &'a Image,
    pub text: &'a str,
    pub timestep: i64,
    /// Names of sites; all if `None`.
    pub sites: Option<&'a [String]>,
    pub map: MapKind,
    pub prediction: bool,
    /// float32 `[C, h, w]` in place of the seeded noise.
    pub noise: Option<Tensor>,
}

/// What was seen; tensors are float32.
pub struct Sight {
    /// Site names and maps `[H, n, m]`, in forward order.
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

impl Model {
    /// Eq. 3 and one evaluation of the UNet, with the maps of the sites asked for.
    pub fn look(&self, look: &Look, config: &ScoreConfig) -> Result<Sight> {
        let train = self.schedule().train_timesteps();
        if !(0..train).contains(&look.timestep) {
            return Err(Error::Config(format!("timestep is {}; this model's are 0 to {}", look.timestep, train - 1)));
        }
        let layers = match look.sites {
            None => crate::config::Layers::All,
            Some(names) => crate::config::Layers::Sites(names.to_vec()),
        };
        let sites = match look.sites {
            Some([]) => vec![false; self.sites().len()],
            _ => super::select::sites(self.sites(), &layers)?,
        };
        let config = ScoreConfig { times: crate::config::Times::Timesteps(vec![look.timestep]), ..config.clone() };
        let noise = self.noise_or_given(&config, look.noise.as_ref().map(|noise| noise.unsqueeze(0)).as_ref())?;
        let clean = self.encode_images(std::slice::from_ref(look.image), &config)?;
        let texts = self.encode_texts(&[look.text], config.truncate)?;
        let noised = self.schedule().add_noise(&clean, &noise, &[look.timestep]);
        let wanted = Wanted {
            sites: &sites,
            map: look.map,
            keep: &|_, map| map.shallow_clone(),
            digest: None,
            alter: None,
            prediction: look.prediction,
        };
        let input = noised.to_kind(self.kind());
        let timestep = Tensor::from_slice(&[look.timestep]).to_device(self.device());
        let batch = Batch::new(&input, &timestep, &texts.vectors, &[0], &[0]);
        let seen = self.backbone().observe(&batch, self.patch(), &wanted)?;
        for (site, map) in &seen.maps {
            self.finite(&format!("the attention of layer {}", self.sites()[*site].name()), map)?;
        }
        if let Some(prediction) = &seen.prediction {
            self.finite("the UNet's last layers", prediction)?;
        }
        Ok(Sight {
            maps: seen.maps.iter().map(|(site, map)| (self.sites()[*site].name(), map.squeeze_dim(0))).collect(),
            prediction: seen.prediction.map(|prediction| prediction.squeeze_dim(0).to_kind(Kind::Float)),
            noised: noised.squeeze_dim(0),
            clean: clean.squeeze_dim(0),
            noise: noise.squeeze_dim(0),
            tokens: texts.tokens.into_iter().next().expect("one text gives one row of tokens"),
        })
    }
}
