//! Every option of few-shot training.

use super::layers::{Layers, layers};
use super::rules::{above, number, one_of, or_null, switch, whole};
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
        /// The one with the highest score.
        Hardest = "hardest",
        /// The mean over all.
        Mean = "mean",
    }
}

choices! {
    /// What a negative of a pair is: another image with its text, another text with its image.
    NegativeKinds {
        /// Both kinds.
        Both = "both",
        /// Other images.
        Image = "image",
        /// Other texts.
        Text = "text",
    }
}

choices! {
    /// Which projections of the cross-attention are trained.
    Projections {
        /// `W_k` and `W_v`.
        KeyValue = "kv",
        /// `W_k`.
        Key = "k",
        /// `W_v`.
        Value = "v",
    }
}

choices! {
    /// Whose projections are trained.
    Modalities {
        /// The text's: those of cross-attention, or of the text in joint attention.
        Text = "text",
        /// The image's too: those of self-attention, or of the image in joint attention.
        Both = "both",
    }
}

choices! {
    /// How the learning rate goes on after the warm-up.
    RateSchedule {
        /// Always the same.
        Constant = "constant",
        /// Half a cosine down towards zero, which a step after the last would have, as `get_cosine_schedule_with_warmup` of
        /// transformers and diffusers does it.
        Cosine = "cosine",
    }
}

choices! {
    /// How the temperature depends on the noise.
    TemperatureSchedule {
        /// Not at all.
        Constant = "constant",
        /// It is in proportion to the mean difference between a match and a mismatch at that noise level, measured at
        /// the start.
        Noise = "noise",
    }
}

choices! {
    /// Where the timesteps of a training step are drawn from.
    TrainTimes {
        /// `range` for a score of fewer than 10 timesteps, otherwise `config`; `config` for a calibrated score.
        Auto = "auto",
        /// The timesteps of the score's configuration.
        Config = "config",
        /// All timesteps between its lowest and its highest noise level.
        Range = "range",
        /// All timesteps of the model.
        Uniform = "uniform",
    }
}

options! {
    /// How deltas are trained.
    pub struct TrainConfig: "training option", check = comparable {
        /// What training minimises.
        loss: Loss = Loss::Triplet, one_of();
        /// Margin of the triplet loss, in scores divided by the temperature.
        margin: f64 = 0.2, number(0.0..);
        /// What scores are divided by before the loss.
        temperature: Option<f64> = None,
            or_null(above(0.0), "such that a typical difference is 0.2 at the start");
        /// Whether the temperature is the same at all timesteps, or in proportion to the typical difference at a
        /// timestep's noise level, measured at the start.
        temperature_schedule: TemperatureSchedule = TemperatureSchedule::Constant, one_of().omit("constant");
        /// Which of several negatives count in the triplet loss.
        negatives: Negatives = Negatives::Hardest, one_of();
        /// What counts as a negative: other images, texts.
        negative_kinds: NegativeKinds = NegativeKinds::Both, one_of();
        /// Whether images and texts of the other items of a batch are negatives too.
        in_batch: bool = false, switch();
        /// Texts of other items of a batch that each item's images are compared with too, drawn anew in each step.
        batch_texts: usize = 0, whole(0..=10_000).omit(0);
        /// Rank of the deltas.
        rank: Option<i64> = None, or_null(whole(1..=4096), "dense, of the shape of the weight");
        /// Which cross-attention layers get deltas; or a list of layers such as down.0.1, mid.0, up.3.2.
        layers: Layers = Layers::All, layers();
        /// Which projections get deltas.
        projections: Projections = Projections::KeyValue, one_of();
        /// Whose projections get deltas: those of the text, or those of the image too.
        modalities: Modalities = Modalities::Text, one_of().omit("text");
        /// Largest learning rate of AdamW.
        learning_rate: f64 = 1e-3, number(0.0..);
        /// Decoupled weight decay of the deltas.
        weight_decay: f64 = 1e-2, number(0.0..);
        /// Learning rate after the warm-up.
        schedule: RateSchedule = RateSchedule::Constant, one_of();
        /// Steps in which the learning rate rises to its largest.
        warmup_steps: u64 = 0, whole(0..);
        /// Largest norm of the gradient.
        gradient_clip: Option<f64> = None, or_null(above(0.0), "no limit");
        /// Parts that a batch is split into, to save memory; its gradient stays the same.
        accumulate: usize = 1, whole(1..=65_536);
        /// Timesteps at which an item is scored in one step.
        timesteps_per_step: usize = 1, whole(1..=1000);
        /// Timesteps to sample during training: those of the score config, all of its noise range, or all of the model;
        /// auto takes the noise range where the score has fewer than 10 timesteps.
        timesteps: TrainTimes = TrainTimes::Auto, one_of();
        /// Whether blocks are run again in the backward pass instead of keeping their activations, to save memory.
        recompute: bool = false, switch();
        /// Seed of order, timesteps and noise.
        seed: u64 = 0, whole(0..);
    }
}

/// Refuses parts of a batch whose items are compared with each other, and texts that nothing is compared with.
fn comparable(config: &TrainConfig) -> Result<()> {
    let without = match (config.in_batch, config.negative_kinds, config.loss) {
        (true, ..) => Some("in_batch compares with all texts of the batch"),
        (_, NegativeKinds::Image, _) => Some("negative_kinds \"image\" compares with no texts"),
        (.., Loss::Diffusion) => Some("the loss \"diffusion\" compares with no texts"),
        _ => None,
    };
    if let (1.., Some(why)) = (config.batch_texts, without) {
        return Err(Error::Config(format!("batch_texts is {}, but {why}; leave one of them out", config.batch_texts)));
    }
    if config.in_batch && config.accumulate > 1 {
        return Err(Error::Config(format!(
            "accumulate is {}, but in_batch compares all items of a batch with each other, so that it cannot be worked \
             through in parts; leave accumulate out, memory is bounded without it",
            config.accumulate
        )));
    }
    Ok(())
}

impl TrainConfig {
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
