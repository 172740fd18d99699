//! Every option of few-shot training, named and validated once.

use serde_json::{Map, Value, json};

use super::read::{bad, choice, layers, number, whole};
use super::{Layers, OptionSpec};
use crate::{Error, Result};

choices! {
    /// What training minimises (method, section 6).
    Loss {
        /// Margin triplet loss (Eq. 6).
        Triplet = "triplet",
        /// Softmax cross-entropy over the candidates.
        CrossEntropy = "cross_entropy",
        /// The binary form that the paper prints (appendix F.4).
        BinaryCrossEntropy = "binary_cross_entropy",
        /// The denoising error of matching pairs.
        Diffusion = "diffusion",
    }
}

choices! {
    /// Which of several negatives count in the triplet loss.
    Negatives {
        Hardest = "hardest",
        Mean = "mean",
    }
}

choices! {
    /// What a negative of a pair is: another image with its text, another text with its image.
    NegativeKinds {
        Both = "both",
        Image = "image",
        Text = "text",
    }
}

choices! {
    /// Which projections of the cross-attention are trained.
    Projections {
        KeyValue = "kv",
        Key = "k",
        Value = "v",
    }
}

choices! {
    /// How the learning rate goes on after the warm-up.
    RateSchedule {
        Constant = "constant",
        /// Half a cosine down towards zero, which a step after the last would have, as `get_cosine_schedule_with_warmup` of
        /// transformers and diffusers does it.
        Cosine = "cosine",
    }
}

choices! {
    /// Where the timesteps of a training step are drawn from.
    TrainTimes {
        /// The timesteps of the score's configuration.
        Config = "config",
        /// All timesteps of the model.
        Uniform = "uniform",
    }
}

/// How deltas are trained. Build one with [`TrainConfig::from_json`] or change [`TrainConfig::default`].
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    pub loss: Loss,
    /// `M` of the triplet loss, in scores divided by the temperature.
    pub margin: f64,
    /// What scores are divided by before the loss; found at the start of training if `None`.
    pub temperature: Option<f64>,
    pub negatives: Negatives,
    pub negative_kinds: NegativeKinds,
    /// Whether images and texts of the other items of a batch are negatives too.
    pub in_batch: bool,
    /// Rank of the deltas; dense if `None`.
    pub rank: Option<i64>,
    pub layers: Layers,
    pub projections: Projections,
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub schedule: RateSchedule,
    pub warmup_steps: u64,
    /// Largest norm of the gradient, if it is limited.
    pub gradient_clip: Option<f64>,
    /// Parts that a batch is worked through in; its gradient stays the same.
    pub accumulate: usize,
    pub timesteps_per_step: usize,
    pub timesteps: TrainTimes,
    /// Whether blocks are run again in the backward pass instead of keeping their graph.
    pub recompute: bool,
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            loss: Loss::Triplet,
            margin: 0.2,
            temperature: None,
            negatives: Negatives::Hardest,
            negative_kinds: NegativeKinds::Both,
            in_batch: false,
            rank: None,
            layers: Layers::All,
            projections: Projections::KeyValue,
            learning_rate: 1e-3,
            weight_decay: 1e-2,
            schedule: RateSchedule::Constant,
            warmup_steps: 0,
            gradient_clip: None,
            accumulate: 1,
            timesteps_per_step: 1,
            timesteps: TrainTimes::Config,
            recompute: false,
            seed: 0,
        }
    }
}

impl TrainConfig {
    /// Reads a JSON object that holds any of the fields; the others keep their defaults.
    ///
    /// # Errors
    /// `Config`, naming the field, what was given and what is allowed.
    pub fn from_json(text: &str) -> Result<Self> {
        let fields: Map<String, Value> = serde_json::from_str(text)
            .map_err(|why| Error::Config(format!("training options are a JSON object ({why})")))?;
        if let Some(unknown) = fields.keys().find(|key| train_options().iter().all(|option| option.name != *key)) {
            let names: Vec<&str> = train_options().iter().map(|option| option.name).collect();
            return Err(Error::Config(format!("unknown option {unknown:?}; there are {}", names.join(", "))));
        }
        let get = |name: &str| fields.get(name).filter(|value| !value.is_null());
        let default = TrainConfig::default();
        let real = |name: &str, default: f64, least: f64, expected: &str| match get(name) {
            None => Ok(default),
            Some(value) => number(value).filter(|x| *x >= least).ok_or_else(|| bad(name, value, expected)),
        };
        let above_zero = |name: &str| {
            let value = get(name).map(|value| {
                let x = number(value).filter(|x| *x > 0.0);
                x.ok_or_else(|| bad(name, value, "a finite number above 0, or none"))
            });
            value.transpose()
        };
        let integer = |name: &str, default: u64, least: u64, most: u64| match get(name) {
            None => Ok(default),
            Some(value) => whole(name, value, least, most),
        };
        let yes = |name: &str, default: bool| match get(name) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| bad(name, value, "true or false")),
        };
        let config = TrainConfig {
            loss: choice(get("loss"), "loss", default.loss, Loss::from_name, Loss::NAMES)?,
            margin: real("margin", default.margin, 0.0, "a finite number, 0 or more")?,
            temperature: above_zero("temperature")?,
            negatives: choice(
                get("negatives"),
                "negatives",
                default.negatives,
                Negatives::from_name,
                Negatives::NAMES,
            )?,
            negative_kinds: choice(
                get("negative_kinds"),
                "negative_kinds",
                default.negative_kinds,
                NegativeKinds::from_name,
                NegativeKinds::NAMES,
            )?,
            in_batch: yes("in_batch", default.in_batch)?,
            rank: get("rank").map(|value| whole("rank", value, 1, 4096).map(|rank| rank as i64)).transpose()?,
            layers: get("layers").map_or(Ok(default.layers), layers)?,
            projections: choice(
                get("projections"),
                "projections",
                default.projections,
                Projections::from_name,
                Projections::NAMES,
            )?,
            learning_rate: real("learning_rate", default.learning_rate, 0.0, "a finite number, 0 or more")?,
            weight_decay: real("weight_decay", default.weight_decay, 0.0, "a finite number, 0 or more")?,
            schedule: choice(
                get("schedule"),
                "schedule",
                default.schedule,
                RateSchedule::from_name,
                RateSchedule::NAMES,
            )?,
            warmup_steps: integer("warmup_steps", default.warmup_steps, 0, 1 << 40)?,
            gradient_clip: above_zero("gradient_clip")?,
            accumulate: integer("accumulate", default.accumulate as u64, 1, 65_536)? as usize,
            timesteps_per_step: integer("timesteps_per_step", default.timesteps_per_step as u64, 1, 1000)? as usize,
            timesteps: choice(
                get("timesteps"),
                "timesteps",
                default.timesteps,
                TrainTimes::from_name,
                TrainTimes::NAMES,
            )?,
            recompute: yes("recompute", default.recompute)?,
            seed: integer("seed", default.seed, 0, (1 << 63) - 1)?,
        };
        if config.in_batch && config.accumulate > 1 {
            return Err(Error::Config(format!(
                "accumulate is {}, but in_batch compares all items of a batch with each other, so that it cannot be \
                 worked through in parts; leave accumulate out, memory is bounded without it",
                config.accumulate
            )));
        }
        Ok(config)
    }

    /// All fields, in order, as a JSON object.
    pub fn to_json(&self) -> String {
        json!({
            "loss": self.loss.name(),
            "margin": self.margin,
            "temperature": self.temperature,
            "negatives": self.negatives.name(),
            "negative_kinds": self.negative_kinds.name(),
            "in_batch": self.in_batch,
            "rank": self.rank,
            "layers": self.layers.to_value(),
            "projections": self.projections.name(),
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "schedule": self.schedule.name(),
            "warmup_steps": self.warmup_steps,
            "gradient_clip": self.gradient_clip,
            "accumulate": self.accumulate,
            "timesteps_per_step": self.timesteps_per_step,
            "timesteps": self.timesteps.name(),
            "recompute": self.recompute,
            "seed": self.seed,
        })
        .to_string()
    }

    /// The learning rate of step `step` (from 0) of `total`: linear warm-up, then the schedule.
    pub fn rate(&self, step: u64, total: u64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        match self.schedule {
            RateSchedule::Constant => self.learning_rate,
            RateSchedule::Cosine => {
                let left = total.saturating_sub(self.warmup_steps).max(1) as f64;
                let done = ((step - self.warmup_steps) as f64 / left).min(1.0);
                self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}

/// Every option of training, in order.
pub fn train_options() -> Vec<OptionSpec> {
    let option = |name, kind, choices, help| OptionSpec { name, kind, choices, help };
    vec![
        option("loss", "choice", Loss::NAMES, "What training minimises."),
        option("margin", "float", &[], "Margin of the triplet loss, in scores divided by the temperature; 0 or more."),
        option(
            "temperature",
            "float",
            &[],
            "What scores are divided by before the loss; default: such that a typical difference is 0.2 at the start.",
        ),
        option("negatives", "choice", Negatives::NAMES, "Which of several negatives count in the triplet loss."),
        option("negative_kinds", "choice", NegativeKinds::NAMES, "What counts as a negative: other images, texts."),
        option("in_batch", "bool", &[], "Whether images and texts of the other items of a batch are negatives too."),
        option("rank", "int", &[], "Rank of the deltas; default: dense, of the shape of the weight."),
        option(
            "layers",
            "choice_or_list",
            &["all", "down", "mid", "up", "last_blocks", "last(n)"],
            "Which cross-attention layers get deltas; or a list of layers such as down.0.1, mid.0, up.3.2.",
        ),
        option("projections", "choice", Projections::NAMES, "Which projections get deltas."),
        option("learning_rate", "float", &[], "Largest learning rate of AdamW; 0 or more."),
        option("weight_decay", "float", &[], "Decoupled weight decay of the deltas; 0 or more."),
        option("schedule", "choice", RateSchedule::NAMES, "How the learning rate goes on after the warm-up."),
        option("warmup_steps", "int", &[], "Steps in which the learning rate rises to its largest; 0 or more."),
        option("gradient_clip", "float", &[], "Largest norm of the gradient; default: no limit."),
        option("accumulate", "int", &[], "Parts that a batch is worked through in, to save memory; 1 or more."),
        option("timesteps_per_step", "int", &[], "Timesteps at which an item is scored in one step; 1 to 1000."),
        option("timesteps", "choice", TrainTimes::NAMES, "Where they are drawn from: the score's own, or all."),
        option("recompute", "bool", &[], "Whether blocks are run again in the backward pass, to save memory."),
        option("seed", "int", &[], "Seed of order, timesteps and noise; 0 or more."),
    ]
}
