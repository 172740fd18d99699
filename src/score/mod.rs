//! Stage 7: per head, layer and timestep to a score. Algorithm 2 is [`Model::score_pairs`]; [`Model::explain`] takes a
//! score apart again, [`Model::embed_images`] and [`Model::embed_texts`] are appendix E.

mod attribution;
mod backprop;
mod batches;
mod contradiction;
mod embed;
mod explain;
mod finite;
pub mod graphs;
mod grid;
mod inputs;
mod layer;
mod model;
mod observe;
mod pairs;
mod plan;
mod prepared;
mod recorded;
mod scene;
mod select;
mod weights;

use std::sync::Arc;

use tch::Tensor;

pub use batches::Event;
pub use explain::{Explained, Maps};
pub use inputs::Inputs;
pub use layer::{layer_score, layer_shares};
pub use model::{Model, Parameters, Texts};
pub use observe::{Look, Sight};
pub use plan::Unit;
pub use prepared::Prepared;
pub use scene::{Kept, Rows, Scene, learned_weights};
pub use select::sites as select_sites;

use crate::backbone::TextCache;
use crate::config::{Method, ScoreConfig, TokenSet};
use crate::encode::image::Image;
use crate::encode::tokenizer::{Tokens, Truncate};
use crate::torch::upload;
use crate::{Error, Result};

/// What to score: images, texts, and which of them belong together.
pub struct Request<'a> {
    pub images: &'a [Image],
    pub texts: &'a [&'a str],
    /// `(image, text)` indices; the same pair may come twice.
    pub pairs: &'a [(usize, usize)],
    /// float32 `[steps, C, h, w]` in place of the seeded noise.
    pub noise: Option<Tensor>,
}

impl Model {
    /// Algorithm 2: the score of every pair at every timestep, `[pairs][steps]`; a pair's score is their mean.
    ///
    /// Images and texts are encoded once, the noise of a timestep is shared by all pairs, and a score does not depend
    /// on the batch size, the order of the pairs or what else is in the request, beyond floating-point rounding.
    /// Where memory runs out, a batch is halved and tried again. `told` hears how far the work is.
    pub fn score_pairs(
        &self,
        request: &Request,
        config: &ScoreConfig,
        told: impl FnMut(Event) -> Result<()>,
    ) -> Result<Vec<Vec<f64>>> {
        if request.pairs.is_empty() {
            self.check(request, config)?;
            return self.check_images(request.images).map(|()| vec![]);
        }
        let scene = self.scene(request, config)?;
        let steps: Vec<usize> = (0..scene.timesteps.len()).collect();
        scene.score(request.pairs, &steps, told)
    }

    /// Images and texts encoded once, with everything else that the request's evaluations share.
    fn scene<'a>(&'a self, request: &Request, config: &'a ScoreConfig) -> Result<Scene<'a>> {
        let Checked { timesteps, noise, chosen, learned } = self.check(request, config)?;
        let latents = self.encode_images(request.images, config)?;
        let texts = self.texts_of(request, config)?;
        Ok(Scene {
            model: self,
            config,
            patch: self.patch(),
            latents,
            noise,
            timesteps,
            content: texts.tokens.into_iter().map(|tokens| tokens.content).collect(),
            cache: self.text_cache(&texts.vectors),
            texts: texts.vectors,
            chosen,
            empty_text: request.texts.len(),
            learned,
            watch: None,
        })
    }

    /// Room for the keys and values of all texts `[T, m, D]`, unless they would be too many.
    pub fn text_cache(&self, texts: &Tensor) -> Option<Arc<TextCache>> {
        let channels: i64 = self.sites().iter().map(|site| site.channels).sum();
        let size = texts.size();
        let bytes = (2 * size[0] * size[1] * channels) as usize * texts.kind().elt_size_in_bytes();
        (bytes <= CACHE_BYTES).then(|| Arc::new(TextCache::new(texts)))
    }

    /// Whatever can be wrong with a configuration on this model but for learned head weights, which may still be to
    /// come; gives by site whether it counts.
    ///
    /// # Errors
    /// `Config`, naming the option.
    pub fn check_config(&self, config: &ScoreConfig) -> Result<Vec<bool>> {
        self.timesteps(config)?;
        self.latent_shape(config)?;
        let chosen = select::sites(self.sites(), &config.layers)?;
        select::check_heads(self.sites(), &chosen, &config.heads)?;
        Ok(chosen)
    }

    /// Whatever can be wrong with a request before anything is encoded.
    fn check(&self, request: &Request, config: &ScoreConfig) -> Result<Checked> {
        let timesteps = self.timesteps(config)?;
        let noise = self.noise_or_given(config, request.noise.as_ref())?;
        let (chosen, learned) = self.chosen_and_learned(config)?;
        Ok(Checked { timesteps, noise, chosen, learned })
    }

    /// By site whether it counts, and its learned head weights; errors as of [`Self::check_config`].
    pub fn chosen_and_learned(&self, config: &ScoreConfig) -> Result<(Vec<bool>, Vec<Option<Tensor>>)> {
        let chosen = self.check_config(config)?;
        let learned = learned_weights(self, config, &chosen)?;
        Ok((chosen, learned))
    }

    /// Refuses texts that `config` cannot score; gives the number of those that are cut.
    pub fn check_texts(&self, texts: &[&str], config: &ScoreConfig) -> Result<usize> {
        let truncate = if config.truncate == Truncate::Error { Truncate::Error } else { Truncate::Silent };
        let tokens = texts.iter().map(|text| self.tokenize(text, truncate)).collect::<Result<Vec<_>>>()?;
        check_words(texts, &tokens, config)?;
        Ok(tokens.iter().filter(|tokens| tokens.truncated).count())
    }

    /// Text vectors of the request, and of the empty text at the end where the method needs it.
    fn texts_of(&self, request: &Request, config: &ScoreConfig) -> Result<Texts> {
        let mut all = request.texts.to_vec();
        if config.compares_to_empty() {
            all.push("");
        }
        let texts = self.encode_texts(&all, config.truncate)?;
        check_words(request.texts, &texts.tokens, config)?;
        Ok(texts)
    }

    /// The noise of a request on the model's device: the given one, checked, or the seeded one.
    fn noise_or_given(&self, config: &ScoreConfig, given: Option<&Tensor>) -> Result<Tensor> {
        let Some(noise) = given else {
            return Ok(upload(&self.noise(config)?, self.device()));
        };
        let [c, h, w] = self.latent_shape(config)?;
        let expected = [self.timesteps(config)?.len() as i64, c, h, w];
        if noise.size() != expected {
            return Err(Error::Config(format!(
                "noise has the shape {:?}; expected [steps, C, h, w] = {expected:?}",
                noise.size()
            )));
        }
        if !finite::is_finite(noise) {
            return Err(Error::Config("noise holds values that are not finite".into()));
        }
        Ok(upload(noise, self.device()))
    }
}

/// Refuses a text without a token of its own where those alone count.
fn check_words(texts: &[&str], tokens: &[Tokens], config: &ScoreConfig) -> Result<()> {
    let own_tokens_count = config.tokens == TokenSet::Content && config.method != Method::Denoising;
    match texts.iter().zip(tokens).find(|(_, tokens)| own_tokens_count && tokens.content.is_empty()) {
        Some((text, _)) => Err(Error::Config(format!(
            "text {text:?} has no tokens of its own, and tokens is \"content\"; use tokens=\"all\" or a text with words"
        ))),
        None => Ok(()),
    }
}

/// Most of the memory that keys and values of texts may take: 60 texts of Stable Diffusion 2.1 in float32.
const CACHE_BYTES: usize = 512 << 20;

/// What a configuration comes to on this model.
struct Checked {
    timesteps: Vec<i64>,
    noise: Tensor,
    chosen: Vec<bool>,
    learned: Vec<Option<Tensor>>,
}
