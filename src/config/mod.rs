//! Every option, declared once. The command line, the stub of the Python module and its documentation are made from the
//! tables [`ScoreConfig::options`], [`TrainConfig::options`] and [`GenerateConfig::options`].

#[macro_use]
mod declare;
mod generate;
mod layers;
mod rules;
mod score;
mod times;
mod train;

pub use declare::{Fields, OptionSpec, did_you_mean};
pub use generate::GenerateConfig;
pub use layers::{GROUPS, Heads, Layers, layers};
pub use rules::{Allowed, Rule, one_of};
pub use score::{
    Attribution, DenoisingError, DenoisingTarget, MapKind, Method, Pooling, Prior, Resize, ScoreConfig, TokenSet,
    Truncate,
};
pub use times::{Times, plain_number};
pub use train::{
    Loss, Modalities, NegativeKinds, Negatives, Projections, RateSchedule, TemperatureSchedule, TrainConfig, TrainTimes,
};
