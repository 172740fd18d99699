//! Every option of a score.

use serde_json::Value;

use super::declare::check_name;
use super::layers::{Heads, Layers, heads, layers};
use super::rules::{Rule, batch_size, number, one_of, or_null, pair, pixels, switch, whole};
use super::times::{TimeOptions, Times};
use crate::Result;

choices! {
    /// What the score is made of (method, section 7).
    Method {
        /// Pooled cross-attention, the paper.
        Attention = "attention",
        /// How much the text helps to predict the noise (DiffusionITM).
        Denoising = "denoising",
        /// Their weighted sum; weight 1 is the authors' released code.
        Combined = "combined",
        /// A sum with the weights of a calibration.
        Calibrated = "calibrated",
    }
}

choices! {
    /// How far the prediction is from its target.
    DenoisingError {
        /// `‖target − prediction‖₂`, what the authors' released code and DiffusionITM use.
        Norm = "norm",
        /// The mean of its square over the latent, as in Diffusion Classifier.
        Mse = "mse",
    }
}

choices! {
    /// What the denoising error is of. They differ by a factor that depends on the timestep alone, so this weighs
    /// timesteps.
    DenoisingTarget {
        /// What the network predicts.
        Prediction = "prediction",
        /// The noise that the prediction implies.
        Noise = "noise",
    }
}

choices! {
    /// Which map of an attention layer is pooled (method, section 2).
    MapKind {
        /// `A = softmax_j(S)`, over all tokens that an image token attends to: the text's `m` (Eq. 4), in joint attention
        /// also the image's.
        Probs = "probs",
        /// `S = QKᵀ/√d`, what the authors' released code pools.
        Logits = "logits",
        /// `q·k / (‖q‖‖k‖)`, section 4.3 of the paper.
        Cosine = "cosine",
        /// `softmax_j(S)` over the text's tokens alone, in cross-attention the same as `probs`.
        TextProbs = "text_probs",
    }
}

choices! {
    /// How a map becomes a number (Eq. 4 and Table 3).
    Pooling {
        /// Mean over image tokens of `1/λ log Σ_j exp(λ A_ij)`.
        Lse = "lse",
        /// Mean over image tokens of the largest value of the row.
        MaxRow = "max_row",
        /// Mean over text tokens of the largest value of the column.
        MaxCol = "max_col",
        /// Mean over both.
        Mean = "mean",
    }
}

choices! {
    /// Which text tokens are pooled.
    TokenSet {
        /// All `m`, with begin, end and padding.
        All = "all",
        /// The prompt's own.
        Content = "content",
    }
}

choices! {
    /// How heads are attributed where `heads` is `attributed` (Eq. 7).
    Attribution {
        /// One weight a head from the gradient of the layer's own pooled score, in closed form.
        Local = "local",
        /// The gradient of the whole score, by backpropagation.
        Full = "full",
        /// Full, integrated over the scale of the map.
        Integrated = "integrated",
        /// Eq. 7 as printed: the attributed map replaces the map before pooling; local gradient.
        Elementwise = "elementwise",
    }
}

choices! {
    /// What a text scores without an image.
    Prior {
        /// The log-mean-exp of its scores with null images, which are noise.
        Null = "null",
    }
}

choices! {
    /// How an image whose sides have another ratio is made square.
    Resize {
        /// Each side is scaled on its own: everything stays in view, shapes are distorted.
        Squash = "squash",
        /// Scaled until it covers the square, the ratio kept; what sticks out on both sides is cut off.
        ///
        /// The side that fits exactly gets its size, the other one the exact multiple rounded down; of the difference,
        /// half (rounded to even) is cut at the top or left. This is what torchvision's `Resize(n)` and `CenterCrop(n)`
        /// do.
        Crop = "crop",
    }
}

choices! {
    /// What to do with a text that needs more tokens than the model takes.
    Truncate {
        /// Refuse it.
        Error = "error",
        /// Cut it; the caller is to warn when [`crate::encode::tokenizer::Encoding::truncated`] is set.
        Warn = "warn",
        /// Cut it without a warning.
        Silent = "silent",
    }
}

options! {
    /// How a score is computed.
    ///
    /// The default is the score that ranked best for each evaluation spent, of those measured on the pocket model
    /// (`tests/benchmarks/default_score.py`): how much the text lowers the error of the predicted noise. The options of
    /// attention are those of the preset `attention`.
    pub struct ScoreConfig: "option" {
        /// What the score is made of.
        method: Method = Method::Denoising, one_of();
        /// Weight of the denoising term where method is combined.
        denoising_weight: f64 = 1.0, number(0.0..);
        /// Distance of a prediction from its target.
        denoising_error: DenoisingError = DenoisingError::Norm, one_of();
        /// What the denoising error is of: the prediction, or the noise that it implies.
        denoising_target: DenoisingTarget = DenoisingTarget::Prediction, one_of().omit("prediction");
        /// Whether the denoising error is compared with that for the empty text.
        unconditional: bool = true, switch();
        /// Which cross-attention map is pooled.
        map: MapKind = MapKind::Cosine, one_of();
        /// How a map becomes a number.
        pooling: Pooling = Pooling::Lse, one_of();
        /// Sharpness of LogSumExp pooling.
        // A little beyond, the products with λ leave float32.
        lambda as "lambda_": f64 = 10.0, number(1e-6..=1e6);
        /// Which text tokens are pooled: all, or the prompt's own.
        tokens: TokenSet = TokenSet::All, one_of();
        /// Which cross-attention layers count; or a list of layers such as down.0.1, mid.0, up.3.2.
        layers: Layers = Layers::Last(1), layers();
        /// How the heads of a layer are averaged; or a list of head indices.
        heads: Heads = Heads::Mean, heads();
        /// How heads are weighted where heads is attributed.
        attribution: Attribution = Attribution::Local, one_of();
        /// Steps of the integral where attribution is integrated.
        attribution_steps: usize = 8, whole(1..=1000);
        /// What is subtracted for a text, whatever the image: its score with null images.
        prior: Option<Prior> = None, or_null(one_of(), "nothing").omit(Value::Null);
        /// Weight of what prior subtracts.
        prior_weight: f64 = PRIOR_WEIGHT, number(0.0..).omit(PRIOR_WEIGHT);
        /// At which times a pair is scored.
        times: Times = Times::DEFAULT, TimeOptions;
        /// Side of the square that images are resized to.
        resolution: Option<usize> = None, or_null(side(), OWN_SIZE);
        /// Side of the square that images are resized to first (Table 1 of the paper).
        via: Option<usize> = None, or_null(side(), "images are resized once");
        /// How images become square.
        resize: Resize = Resize::Squash, one_of();
        /// Height and width of the image before resizing, a conditioning input of Stable Diffusion XL.
        original_size: Option<[i64; 2]> = None, size(OWN_SIZE);
        /// Top and left coordinates of the crop, a conditioning input of Stable Diffusion XL.
        crops_coords_top_left: Option<[i64; 2]> = None, crop();
        /// Desired height and width of the image, a conditioning input of Stable Diffusion XL.
        target_size: Option<[i64; 2]> = None, size(OWN_SIZE);
        /// Evaluations of the network at a time; never changes a score.
        batch_size: Option<usize> = None, batch_size();
        /// What is done with texts longer than the model's context length.
        truncate: Truncate = Truncate::Warn, one_of();
        /// Seed of the noise.
        seed: u64 = 0, whole(0..);
    }
}

/// The weight of a text's prior that was best in choices among texts of an image, measured on the pocket model.
const PRIOR_WEIGHT: f64 = 0.5;

/// The largest side of an image, pixels: no image model is near it; more would only fill the memory.
const MAX_SIDE: i64 = 16_384;
const OWN_SIZE: &str = "the model's own";

/// The rule of a side of an image.
pub(super) fn side() -> Rule<usize> {
    pixels(1..=MAX_SIDE)
}

/// The rule of a size that the network takes as an input.
pub(super) fn size(null: &'static str) -> Rule<Option<[i64; 2]>> {
    or_null(pair("int_pair", "height and width", pixels(1..=MAX_SIDE)), null).omit(Value::Null)
}

/// The rule of a crop that the network takes as an input.
pub(super) fn crop() -> Rule<Option<[i64; 2]>> {
    or_null(pair("int_pair", "top and left", pixels(0..=MAX_SIDE)), "0, 0").omit(Value::Null)
}

impl ScoreConfig {
    /// The names of the presets (method, section 8).
    pub const PRESETS: &'static [&'static str] = &["default", "attention", "denoising", "paper", "release"];

    /// A named preset.
    ///
    /// # Errors
    /// `Config`, naming all presets and the nearest one.
    pub fn preset(name: &str) -> Result<Self> {
        check_name("preset", name, Self::PRESETS)?;
        let default = ScoreConfig::default();
        Ok(match name {
            // The best attention score of those measured on the pocket model (its card has the table): the cosine map
            // of the last layer, sharply pooled, at noise levels where the image is half visible.
            "attention" => ScoreConfig {
                method: Method::Attention,
                map: MapKind::Cosine,
                pooling: Pooling::Lse,
                lambda: 10.0,
                tokens: TokenSet::All,
                layers: Layers::Last(1),
                heads: Heads::Mean,
                times: Times::Range { low: 0.29, high: 0.65, steps: 10 },
                ..default
            },
            // What the default is as long as nothing better is measured.
            "denoising" => ScoreConfig {
                method: Method::Denoising,
                denoising_error: DenoisingError::Norm,
                unconditional: true,
                times: Times::Range { low: 0.3, high: 0.8, steps: 10 },
                ..default
            },
            "paper" => ScoreConfig {
                method: Method::Attention,
                map: MapKind::Probs,
                pooling: Pooling::Lse,
                lambda: 1.0,
                tokens: TokenSet::All,
                layers: Layers::All,
                heads: Heads::Attributed,
                attribution: Attribution::Local,
                times: Times::Steps(50),
                ..default
            },
            "release" => ScoreConfig {
                method: Method::Combined,
                denoising_weight: 1.0,
                map: MapKind::Logits,
                pooling: Pooling::Lse,
                lambda: 1.0,
                tokens: TokenSet::All,
                layers: Layers::LastBlocks,
                heads: Heads::Mean,
                times: Times::Steps(50),
                ..default
            },
            _ => default,
        })
    }
}
