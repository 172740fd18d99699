//! Where a score comes from: what every token, layer, head, timestep and place adds to it, and the attention maps.
//!
//! The score is a mean over timesteps, layers and heads of pooled maps, and a pooled map is a sum over its entries
//! ([`crate::pooling::shares`]); so it is a sum over all of them, plus the denoising term, which belongs to no token.
//!
//! Nothing grows with the number of timesteps but numbers by timestep, head and token, and one map a timestep: the
//! maps themselves are added up as they are formed, per layer and head at the layer's own resolution. Of the text,
//! begin, own tokens and end are told apart; the padding, most of the 77 tokens, counts as one. For Stable Diffusion
//! 2.1 with ten words that is 9 MB, and 0.2 MB for each timestep.

use std::cell::RefCell;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::batches::{Batches, Event};
use super::finite::is_finite;
use super::grid::{pictures, smooth, spread};
use super::layer::{layer_score, layer_shares};
use super::plan::{Plan, Unit};
use super::scene::Scene;
use super::{Model, Request, select};
use crate::backbone::{MapKind, Observation, Wanted};
use crate::config::{Layers, Method, ScoreConfig, TokenSet};
use crate::encode::image::view;
use crate::encode::tokenizer::Tokens;
use crate::torch::to_vec64;
use crate::{Error, Result};

/// Which attention maps are shown; the score's own may be others.
pub struct Maps {
    pub kind: MapKind,
    pub layers: Layers,
}

/// A score taken apart. `k` are the text's tokens: begin, its own, end, and the padding as one if there is any.
pub struct Explained {
    pub tokens: Tokens,
    pub timesteps: Vec<i64>,
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

impl Model {
    /// Takes the score of a request's only pair apart. It costs one more evaluation a timestep where the maps to show
    /// are of another kind than those that are scored.
    ///
    /// # Errors
    /// As [`Model::score_pairs`].
    pub fn explain(
        &self,
        request: &Request,
        maps: &Maps,
        config: &ScoreConfig,
        told: impl FnMut(Event) -> Result<()>,
    ) -> Result<Explained> {
        let ([image], [text]) = (request.images, request.texts) else {
            return Err(Error::Config("explain takes one image and one text".into()));
        };
        let scene = self.scene(request, config)?;
        let shown = select::sites(self.sites(), &maps.layers)?;
        let tokens = self.tokenize(text, config.truncate)?;
        let steps: Vec<usize> = (0..scene.timesteps.len()).collect();
        let plan = Plan::new(&[(0, 0)], &steps, config.compares_to_empty().then_some(scene.empty_text));
        let [with_text, without] = plan.parts();

        let columns = Columns::new(&tokens, config.tokens);
        let mut found =
            Found::new(columns, self.sites().len(), scene.chosen.iter().filter(|&&c| c).count() * steps.len());
        let apart = maps.kind != config.map && config.method != Method::Denoising;
        let total = plan.units.len() + if apart { with_text.len() } else { 0 };
        // Shares are float64 and as large as a map: fewer evaluations at a time than for a score alone.
        let pixels = scene.latents.size()[2..].iter().product();
        let size = config.batch_size.unwrap_or_else(|| self.auto_batch(pixels).min(8));
        let mut batches = Batches::new(self, size, pixels, total, told);
        let nothing = vec![false; shown.len()];
        if apart {
            batches.run(with_text, |units| found.look(&scene, units, config.map, &nothing, true))?;
            batches.run(with_text, |units| found.look(&scene, units, maps.kind, &shown, false))?;
        } else {
            batches.run(with_text, |units| found.look(&scene, units, maps.kind, &shown, true))?;
        }
        batches.run(without, |units| found.predict(&scene, units))?;
        found.check(&scene)?;
        let image = image.rgb()?;
        let view = view((image.width, image.height), &self.preprocessing(config)?);
        Ok(found.explained(&scene, tokens, view))
    }
}

/// Which of the `m` text tokens are told apart.
struct Columns {
    own: Range<usize>,
    m: i64,
    counted: TokenSet,
}

impl Columns {
    fn new(tokens: &Tokens, counted: TokenSet) -> Self {
        Columns { own: tokens.content.clone(), m: tokens.ids.len() as i64, counted }
    }

    /// `[…, m]` to `[…, k]`, the padding by `one`.
    fn apart(&self, x: &Tensor, one: impl Fn(&Tensor) -> Tensor) -> Tensor {
        let named = self.own.end as i64 + 1;
        if named == self.m {
            return x.shallow_clone();
        }
        Tensor::cat(&[x.narrow(-1, 0, named), one(&x.narrow(-1, named, self.m - named))], -1)
    }

    /// Maps by token, the padding by its mean.
    fn of_map(&self, map: &Tensor) -> Tensor {
        self.apart(map, |padding| padding.mean_dim(-1, true, None))
    }

    /// Shares by token, the padding by its sum; tokens that do not count add nothing.
    fn of_shares(&self, shares: &Tensor) -> Tensor {
        if self.counted == TokenSet::Content {
            let behind = if self.own.end as i64 + 1 == self.m { 1 } else { 2 };
            return shares.constant_pad_nd([self.own.start as i64, behind]);
        }
        self.apart(shares, |padding| padding.sum_dim_intlist(-1, true, None))
    }
}

/// What was found so far. A batch adds to it when it is done, or not at all.
struct Found {
    columns: Columns,
    /// Number of layers and timesteps that the score is a mean over.
    terms: f64,
    attention: Vec<f64>,
    errors: Vec<f64>,
    empty: Vec<f64>,
    sites: Vec<OfSite>,
    /// `[B, k, s, s]` a batch.
    by_timestep: Vec<Tensor>,
}

/// Of one site; what a batch saw of it, or the sum of what all did.
#[derive(Default)]
struct OfSite {
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
    fn new(columns: Columns, sites: usize, terms: usize) -> Self {
        Found {
            columns,
            terms: terms as f64,
            attention: vec![],
            errors: vec![],
            empty: vec![],
            sites: (0..sites).map(|_| OfSite::default()).collect(),
            by_timestep: vec![],
        }
    }

    /// Evaluations with the text: maps of `kind` at the sites `shown`, and with `scored` the score's parts.
    fn look(&mut self, scene: &Scene, units: &[Unit], kind: MapKind, shown: &[bool], scored: bool) -> Result<()> {
        let config = scene.config;
        let prediction = scored && config.method != Method::Attention;
        let inputs = scene.inputs(units, prediction)?;
        let counts = |site: usize| scored && inputs.sites[site];
        let weights = if scored { scene.head_weights(&inputs)? } else { vec![] };
        let seen: RefCell<Vec<OfSite>> = RefCell::new((0..shown.len()).map(|_| OfSite::default()).collect());
        let keep = |site: usize, map: &Tensor| {
            let seen = &mut seen.borrow_mut()[site];
            if shown[site] {
                let map = self.columns.of_map(map);
                seen.maps = Some(map.sum_dim_intlist(0, false, Kind::Float));
                seen.rows = Some(map.mean_dim(1, false, Kind::Float));
            }
            if !counts(site) {
                return Tensor::new();
            }
            let given = weights[site].as_ref();
            let shares = layer_shares(map, inputs.content(), config, given) / self.terms;
            let shares = self.columns.of_shares(&shares);
            seen.contributions.push(shares.sum_dim_intlist(2, false, None));
            seen.places = Some(shares.sum_dim_intlist([0, 1].as_slice(), false, None));
            layer_score(map, inputs.content(), config, given)
        };
        let sites: Vec<bool> = (0..shown.len()).map(|site| shown[site] || counts(site)).collect();
        let wanted = Wanted { sites: &sites, map: kind, keep: &keep, digest: None, alter: None, prediction };
        let mut found = scene.model.backbone().observe(&inputs.batch(scene.cache.as_deref()), scene.patch, &wanted)?;
        let mut seen = seen.into_inner();

        let pictures_of = seen.iter_mut().filter_map(|site| site.rows.take()).map(|rows| pictures(&rows));
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
        for (site, old) in seen.iter_mut().zip(&self.sites) {
            site.maps = sum(&old.maps, site.maps.take());
            site.places = sum(&old.places, site.places.take());
        }
        found.maps.retain(|(site, _)| counts(*site));
        let rows = scored.then(|| scene.rows(&inputs, &Observation { maps: found.maps, prediction: found.prediction }));

        if let Some(rows) = rows {
            self.attention.extend(rows.attention.iter().flat_map(to_vec64));
            self.errors.extend(rows.error.iter().flat_map(to_vec64));
        }
        self.by_timestep.extend(by_timestep);
        for (old, new) in self.sites.iter_mut().zip(seen) {
            old.contributions.extend(new.contributions);
            (old.maps, old.places) = (new.maps, new.places);
        }
        Ok(())
    }

    /// Evaluations without a text, which denoising errors are compared with.
    fn predict(&mut self, scene: &Scene, units: &[Unit]) -> Result<()> {
        let errors = scene.evaluate(units, true)?.error;
        self.empty.extend(errors.iter().flat_map(to_vec64));
        Ok(())
    }

    /// Refuses what is not finite in a score or in a map that is shown.
    fn check(&self, scene: &Scene) -> Result<()> {
        let maps = self.by_timestep.iter().all(is_finite);
        for step in 0..scene.timesteps.len() {
            let numbers = [&self.attention, &self.errors, &self.empty].map(|of| of.get(step).copied().unwrap_or(0.0));
            let whole = if maps { numbers.iter().sum() } else { f64::NAN };
            scene.check(Unit { image: 0, text: 0, step }, whole)?;
        }
        Ok(())
    }

    fn explained(self, scene: &Scene, tokens: Tokens, view: [f64; 4]) -> Explained {
        let (config, steps) = (scene.config, scene.timesteps.len());
        let weight = if config.method == Method::Combined { config.denoising_weight } else { 1.0 };
        let at = |values: &[f64], step: usize| values.get(step).copied().unwrap_or(0.0);
        let helps = (0..steps).map(|step| weight * (at(&self.empty, step) - at(&self.errors, step)));
        let denoising: Vec<f64> = helps.collect();
        let scores = (0..steps).map(|step| at(&self.attention, step) + denoising[step]).collect();

        let name = |site: usize| scene.model.sites()[site].name();
        let (mut contributions, mut maps, mut places) = (vec![], vec![], vec![]);
        for (site, found) in self.sites.into_iter().enumerate() {
            if !found.contributions.is_empty() {
                contributions.push((name(site), Tensor::cat(&found.contributions, 0)));
            }
            maps.extend(found.maps.map(|map| (name(site), pictures(&(map / steps as f64)))));
            places.extend(found.places.map(|place| pictures(&place)));
        }
        let finest = places.iter().map(|place| place.size()[2]).max();
        let places = finest.map(|finest| {
            let spread: Vec<Tensor> = places.iter().map(|place| spread(place, finest)).collect();
            Tensor::stack(&spread, 0).sum_dim_intlist(0, false, Kind::Double)
        });
        Explained {
            tokens,
            timesteps: scene.timesteps.clone(),
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
