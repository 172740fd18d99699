//! The times that a training step draws from.

use crate::config::{Loss, Method, ScoreConfig, Times, TrainConfig, TrainTimes};
use crate::model::Model;
use crate::noise::Time;
use crate::{Error, Result};

/// A score of fewer times than this is trained between them too: deltas that see a few times alone can fit those. On a
/// small checkpoint (logits of all layers, 5 steps) they gained half of what others gained. On the pocket model there
/// was no difference beyond chance, neither at 5 steps nor at 10 (`tests/benchmarks/few_shot.py`).
const FEW: usize = 10;

/// The times that a step draws from; `which` is none that stands for another.
///
/// # Errors
/// As [`Model::times`].
pub fn choices(model: &Model, config: &ScoreConfig, which: TrainTimes) -> Result<Vec<Time>> {
    match which {
        TrainTimes::Auto | TrainTimes::Config => model.times(config),
        TrainTimes::Uniform => Ok(model.process().all()),
        TrainTimes::Range => {
            let times = model.times(config)?;
            let (low, high) = match config.times {
                Times::Steps(_) => return Ok(model.process().all()),
                Times::Range { low, high, .. } => (model.process().at_level(low), model.process().at_level(high)),
                Times::Timesteps(_) | Times::NoiseLevels(_) => ends(&times),
            };
            let between: Vec<Time> =
                model.process().all().into_iter().filter(|time| (low..=high).contains(time)).collect();
            Ok(if between.is_empty() { times } else { between })
        }
    }
}

fn ends(times: &[Time]) -> (Time, Time) {
    times.iter().fold((times[0], times[0]), |(low, high), &time| {
        (if time < low { time } else { low }, if time > high { time } else { high })
    })
}

/// What the option `timesteps` stands for, for the score that is trained.
///
/// # Errors
/// `Config` if the score is calibrated and the option asks for times without weights.
pub fn resolved(model: &Model, config: &ScoreConfig, options: &TrainConfig) -> Result<TrainTimes> {
    // Weights are those of the configuration's own times.
    let calibrated = config.method == Method::Calibrated && options.loss != Loss::Diffusion;
    match options.timesteps {
        TrainTimes::Auto if calibrated || model.times(config)?.len() >= FEW => Ok(TrainTimes::Config),
        TrainTimes::Auto => Ok(TrainTimes::Range),
        other @ (TrainTimes::Range | TrainTimes::Uniform) if calibrated => Err(Error::Config(format!(
            "timesteps is {:?}, but the score is calibrated, and a calibration has weights for the timesteps of its \
             configuration alone; train with timesteps \"config\" or \"auto\"",
            other.name()
        ))),
        other => Ok(other),
    }
}
