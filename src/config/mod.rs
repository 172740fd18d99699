//! Every option of a score, named and validated once. Command line, stubs and docs are checked against
//! [`options`].

mod generate;
mod options;
mod read;

use serde_json::{Map, Value, json};

pub use generate::GenerateConfig;
pub use options::{OptionSpec, options};
pub use read::plain_number;
pub use train::{Loss, NegativeKinds, Negatives, Projections, RateSchedule, TrainConfig, TrainTimes, train_options};

use crate::{Error, Result};

/// Makes an option of named choices: the enum, its names in order, and the way back and forth.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// The names that users type, in order.
            pub const NAMES: &'static [&'static str] = &[$($text),+];

            /// The name that users type.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// The choice of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some($name::$variant),)+ _ => None }
            }
        }
    };
}

mod train;

choices! {
    /// What the score is made of (method, section 7).
    Method {
        /// Pooled cross-attention, the paper.
        Attention = "attention",
        /// How much the text helps to predict the noise (DiffusionITM).
        Denoising = "denoising",
        /// Their weighted sum; weight 1 is the authors' released code.
        Combined = "combined",
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
    /// Which map of a cross-attention site is pooled (method, section 2).
    MapKind {
        /// `A = softmax_j(S)`, over all `m` text tokens (Eq. 4).
        Probs = "probs",
        /// `S = QKᵀ/√d`, what the authors' released code pools.
        Logits = "logits",
        /// `q·k / (‖q‖‖k‖)`, section 4.3 of the paper.
        Cosine = "cosine",
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

/// Which cross-attention layers count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layers {
    All,
    /// A part of the network, such as `down`, `mid` and `up` of a UNet.
    Group(String),
    /// The last attention block of each stage: what the authors' released code pools.
    LastBlocks,
    /// The last `n` in forward order.
    Last(usize),
    /// By name.
    Named(Vec<String>),
}

impl Layers {
    /// As users write it.
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Layers::All => json!("all"),
            Layers::Group(group) => json!(group),
            Layers::LastBlocks => json!("last_blocks"),
            Layers::Last(n) => json!(format!("last({n})")),
            Layers::Named(names) => json!(names),
        }
    }
}

/// How the heads of a layer are averaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heads {
    Mean,
    Attributed,
    Learned,
    /// The plain mean of some.
    Subset(Vec<usize>),
}

/// At which timesteps a pair is scored.
#[derive(Debug, Clone, PartialEq)]
pub enum Times {
    /// DDIM steps over the checkpoint's whole schedule.
    Steps(i64),
    /// Noise levels from `high` down to `low`, evenly spaced, both included; one step is the middle.
    Range { low: f64, high: f64, steps: i64 },
    /// Times of the model's process as given: training timesteps of a diffusion model.
    Timesteps(Vec<f64>),
    /// `t = round(level · T)`.
    NoiseLevels(Vec<f64>),
}

/// How a score is computed. Build one with [`ScoreConfig::from_json`] or change [`ScoreConfig::default`].
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreConfig {
    pub method: Method,
    pub denoising_weight: f64,
    pub denoising_error: DenoisingError,
    /// Whether the error is taken from that of the empty text (DiffusionITM), or stands alone (Diffusion Classifier).
    pub unconditional: bool,
    pub map: MapKind,
    pub pooling: Pooling,
    pub lambda: f64,
    pub tokens: TokenSet,
    pub layers: Layers,
    pub heads: Heads,
    pub attribution: Attribution,
    /// `k`, steps of the integral where `attribution` is `integrated`.
    pub attribution_steps: usize,
    pub times: Times,
    /// Side of the square the image is brought to, pixels; the checkpoint's own if `None`.
    pub resolution: Option<usize>,
    /// Side that the image is brought to first (Table 1), pixels.
    pub via: Option<usize>,
    pub resize: Resize,
    /// Evaluations of the UNet at a time; chosen by the device if `None`.
    pub batch_size: Option<usize>,
    pub truncate: Truncate,
    pub seed: u64,
}

/// The lowest and the highest noise level of the default, and how many there are.
const DEFAULT_RANGE: (f64, f64) = (0.3, 0.8);
const DEFAULT_STEPS: i64 = 10;

impl Default for ScoreConfig {
    /// The score that ranked best for each evaluation spent, of those measured on the pocket model
    /// (`tests/benchmarks/default_score.py`): how much the text lowers the error of the predicted noise. The options of
    /// attention are those of the preset `attention`.
    fn default() -> Self {
        ScoreConfig {
            method: Method::Denoising,
            denoising_weight: 1.0,
            denoising_error: DenoisingError::Norm,
            unconditional: true,
            map: MapKind::Cosine,
            pooling: Pooling::Lse,
            lambda: 10.0,
            tokens: TokenSet::All,
            layers: Layers::Last(1),
            heads: Heads::Mean,
            attribution: Attribution::Local,
            attribution_steps: 8,
            times: Times::Range { low: DEFAULT_RANGE.0, high: DEFAULT_RANGE.1, steps: DEFAULT_STEPS },
            resolution: None,
            via: None,
            resize: Resize::Squash,
            batch_size: None,
            truncate: Truncate::Warn,
            seed: 0,
        }
    }
}

impl ScoreConfig {
    /// The names of the presets (method, section 8).
    pub const PRESETS: &'static [&'static str] = &["default", "attention", "paper", "release"];

    /// A named preset.
    pub fn preset(name: &str) -> Result<Self> {
        let default = ScoreConfig::default();
        match name {
            "default" => Ok(default),
            // The best attention score of those measured on the pocket model (its card has the table): the cosine map
            // of the last layer, sharply pooled, at noise levels where the image is half visible.
            "attention" => Ok(ScoreConfig {
                method: Method::Attention,
                map: MapKind::Cosine,
                pooling: Pooling::Lse,
                lambda: 10.0,
                tokens: TokenSet::All,
                layers: Layers::Last(1),
                heads: Heads::Mean,
                times: Times::Range { low: 0.29, high: 0.65, steps: 10 },
                ..default
            }),
            "paper" => Ok(ScoreConfig {
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
            }),
            "release" => Ok(ScoreConfig {
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
            }),
            _ => Err(Error::Config(format!("unknown preset {name:?}; there are {}", Self::PRESETS.join(", ")))),
        }
    }

    /// Reads a JSON object that holds any of the fields; the others keep their defaults.
    ///
    /// # Errors
    /// `Config`, naming the field, what was given and what is allowed.
    pub fn from_json(text: &str) -> Result<Self> {
        let fields: Map<String, Value> = serde_json::from_str(text)
            .map_err(|why| Error::Config(format!("a score configuration is a JSON object of options ({why})")))?;
        read::read(&fields)
    }

    /// All fields, in order, as a JSON object.
    pub fn to_json(&self) -> String {
        let mut times = json!({"steps": null, "noise_range": null, "timesteps": null, "noise_levels": null});
        match &self.times {
            Times::Steps(steps) => times["steps"] = json!(steps),
            Times::Range { low, high, steps } => {
                (times["steps"], times["noise_range"]) = (json!(steps), json!([low, high]));
            }
            Times::Timesteps(timesteps) => {
                times["timesteps"] = timesteps.iter().map(|&t| read::plain_number(t)).collect();
            }
            Times::NoiseLevels(levels) => times["noise_levels"] = json!(levels),
        }
        let heads = match &self.heads {
            Heads::Mean => json!("mean"),
            Heads::Attributed => json!("attributed"),
            Heads::Learned => json!("learned"),
            Heads::Subset(heads) => json!(heads),
        };
        json!({
            "method": self.method.name(),
            "denoising_weight": self.denoising_weight,
            "denoising_error": self.denoising_error.name(),
            "unconditional": self.unconditional,
            "map": self.map.name(),
            "pooling": self.pooling.name(),
            "lambda_": self.lambda,
            "tokens": self.tokens.name(),
            "layers": self.layers.to_value(),
            "heads": heads,
            "attribution": self.attribution.name(),
            "attribution_steps": self.attribution_steps,
            "steps": times["steps"],
            "noise_range": times["noise_range"],
            "timesteps": times["timesteps"],
            "noise_levels": times["noise_levels"],
            "resolution": self.resolution,
            "via": self.via,
            "resize": self.resize.name(),
            "batch_size": self.batch_size.map_or(json!("auto"), |size| json!(size)),
            "truncate": self.truncate.name(),
            "seed": self.seed,
        })
        .to_string()
    }
}
