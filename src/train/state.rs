//! The state that steps change, in memory and on disk. A resumed run continues with identical results.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tch::Tensor;

use super::heads::HeadStatistics;
use super::optimizer::AdamW;
use super::scale::LossScale;
use super::start;
use super::temperature::Temperature;
use crate::checkpoint::TensorFile;
use crate::config::{OptionSpec, ScoreConfig, TrainConfig, TrainTimes};
use crate::deltas::{Delta, Deltas, Fingerprint, Target};
use crate::runtime::Lock;
use crate::{Error, Result};

const FORMAT: &str = "discffusion.state";
const VERSION: &str = "1";

/// Everything that the next step depends on. A step changes it at once, at its end.
pub(super) struct State {
    pub options: TrainConfig,
    pub config: ScoreConfig,
    pub deltas: Deltas,
    /// The trained tensors of `deltas`, in order.
    pub trained: Vec<Tensor>,
    pub optimizer: AdamW,
    pub heads: HeadStatistics,
    /// The divisor of scores, once it is known.
    pub temperature: Option<Temperature>,
    /// What steps draw times from.
    pub times: TrainTimes,
    /// Running mean of the fraction of rows that had a gradient.
    pub needed: f64,
    pub scale: LossScale,
}

/// The state of a session after its last finished step. It can be read from other threads while the next step runs.
#[derive(Clone)]
pub struct View(pub(super) Arc<Lock<State>>);

impl View {
    /// Number of steps done.
    pub fn steps(&self) -> u64 {
        self.0.hold().optimizer.steps
    }

    /// What steps draw times from; none that stands for another.
    pub fn times(&self) -> TrainTimes {
        self.0.hold().times
    }

    /// A copy of the deltas, with the head weights learned so far.
    pub fn deltas(&self) -> Deltas {
        self.0.hold().deltas()
    }

    /// Writes everything that the next step depends on, atomically. `extra` is an arbitrary text of the caller, which
    /// [`Session::load`](super::Session::load) returns.
    ///
    /// # Errors
    /// `Deltas` if the file cannot be written.
    pub fn save(&self, path: &Path, extra: &str) -> Result<()> {
        self.0.hold().save(path, extra)
    }
}

impl State {
    fn deltas(&self) -> Deltas {
        let mut copy = self.deltas.copy();
        copy.head_weights = self.heads.weights(&self.deltas.architecture.layers).or(copy.head_weights);
        copy
    }

    /// Replaces the deltas by others of the same targets and shapes; the optimiser keeps its moments.
    pub fn set_deltas(&mut self, deltas: &Deltas) -> Result<()> {
        start::copy_into(deltas, &mut self.deltas)?;
        self.heads = HeadStatistics::default();
        self.deltas.head_weights.clone_from(&deltas.head_weights);
        Ok(())
    }

    /// The names of the trained tensors in a deltas file, in order.
    pub fn trained_names(&self) -> Vec<String> {
        let of = |(&target, delta): (&Target, &Delta)| {
            let path = self.deltas.architecture.path(target);
            let names = delta.tensors().into_iter().filter(|(_, tensor)| tensor.requires_grad());
            names.map(|(name, _)| format!("{path}.{name}")).collect::<Vec<_>>()
        };
        self.deltas.entries.iter().flat_map(of).collect()
    }

    fn save(&self, path: &Path, extra: &str) -> Result<()> {
        let mut file = TensorFile::default();
        for (name, parts) in self.parts() {
            for (part, tensor) in ["value", "mean", "square"].iter().zip(parts) {
                file.tensors.insert(format!("{name}/{part}"), tensor.detach());
            }
        }
        let state = json!({
            "steps": self.optimizer.steps,
            "needed": self.needed,
            "scale": self.scale.factor(),
            "calm": self.scale.calm(),
            "temperature": self.temperature.as_ref().map(|temperature| temperature.value),
            "factors": self.temperature.as_ref().map_or(&[][..], Temperature::factors),
            "times": self.times.name(),
            "heads": self.heads,
            "options": json_of(&self.options.to_json()),
            "config": json_of(&self.config.to_json()),
            "fingerprint": self.deltas.fingerprint,
            "extra": extra,
        });
        file.metadata.insert(FORMAT.into(), VERSION.into());
        file.metadata.insert("state".into(), state.to_string());
        let cannot = |why| Error::Deltas(format!("{}: cannot be written ({why})", path.display()));
        file.write(path).map_err(cannot)
    }

    /// Restores a saved state and returns its `extra`; after an error nothing has changed.
    pub fn load(&mut self, path: &Path) -> Result<String> {
        let fail = |what: &dyn std::fmt::Display| Error::Deltas(format!("{}: {what}", path.display()));
        let file = TensorFile::read(path).map_err(|what| fail(&what))?;
        if file.metadata.get(FORMAT).map(String::as_str) != Some(VERSION) || !file.checked {
            return Err(fail(&"is no training state of this release, or is damaged"));
        }
        let malformed = || fail(&"is a training state with malformed metadata");
        let text = file.metadata.get("state").ok_or_else(malformed)?;
        let state: Map<String, Value> = serde_json::from_str(text).map_err(|_| malformed())?;
        let field = |name: &str| state.get(name).cloned().ok_or_else(malformed);

        let model: Option<Fingerprint> = serde_json::from_value(field("fingerprint")?).map_err(|_| malformed())?;
        let difference = match (&model, &self.deltas.fingerprint) {
            (Some(a), Some(b)) => a.difference(b),
            _ => Some("what is known of it".into()),
        };
        if let Some(what) = difference {
            return Err(Error::Config(format!(
                "{}: is a training state of another model ({what} differs); load the model it was trained on, or give \
                 another folder",
                path.display()
            )));
        }
        let (mut options, config) = (field("options")?, field("config")?);
        let name_of = |name: &Value| name.as_str().and_then(TrainTimes::from_name);
        let times = state.get("times").or(options.get("timesteps")).and_then(name_of).ok_or_else(malformed)?;
        // It was the default before there was "auto": what was begun with it goes on so.
        if self.options.timesteps == TrainTimes::Auto && times == TrainTimes::Config {
            options["timesteps"] = TrainTimes::Auto.name().into();
        }
        same_options(path, "training option", TrainConfig::options(), &options, &json_of(&self.options.to_json()))?;
        same_options(path, "score option", ScoreConfig::options(), &config, &json_of(&self.config.to_json()))?;

        let steps = field("steps")?.as_u64().ok_or_else(malformed)?;
        let needed = field("needed")?.as_f64().ok_or_else(malformed)?;
        let scale = field("scale")?.as_f64().ok_or_else(malformed)?;
        // Earlier releases did not count.
        let calm = state.get("calm").and_then(Value::as_u64).unwrap_or(0);
        let factors = state.get("factors").map_or(Ok(vec![]), |factors| serde_json::from_value(factors.clone()));
        let factors = factors.map_err(|_| malformed())?;
        let temperature = field("temperature")?.as_f64().map(|value| Temperature::new(value, factors));
        let heads = serde_json::from_value(field("heads")?).map_err(|_| malformed())?;
        let extra = field("extra")?.as_str().ok_or_else(malformed)?.to_owned();
        let mut pairs = vec![];
        for (name, parts) in self.parts() {
            for (part, own) in ["value", "mean", "square"].iter().zip(parts) {
                let key = format!("{name}/{part}");
                let stored = file.tensors.get(&key).filter(|stored| stored.size() == own.size());
                let stored = stored.ok_or_else(|| fail(&format_args!("lacks {key} {:?}", own.size())))?;
                pairs.push((own, stored));
            }
        }
        tch::no_grad(|| {
            for (mut own, stored) in pairs {
                own.copy_(stored);
            }
        });
        (self.optimizer.steps, self.needed, self.heads) = (steps, needed, heads);
        self.scale = self.scale.at(scale, calm);
        (self.temperature, self.times) = (temperature, times);
        Ok(extra)
    }

    /// Each trained tensor with its two moments, by name; the tensors are handles of the same memory.
    fn parts(&self) -> Vec<(String, [Tensor; 3])> {
        let of = |((name, value), (mean, square)): ((String, &Tensor), &(Tensor, Tensor))| {
            (name, [value.shallow_clone(), mean.shallow_clone(), square.shallow_clone()])
        };
        self.trained_names().into_iter().zip(&self.trained).zip(&self.optimizer.moments).map(of).collect()
    }
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).expect("options are written as JSON")
}

/// Refuses a state that was written with other options. One that is not written has its default, or is older than it.
fn same_options(path: &Path, what: &str, options: &[OptionSpec], stored: &Value, own: &Value) -> Result<()> {
    for option in options {
        let [before, now] = [stored, own].map(|fields| fields.get(option.name).filter(|value| !value.is_null()));
        if before != now {
            let (before, now) = (before.unwrap_or(&Value::Null), now.unwrap_or(&option.default));
            return Err(Error::Config(format!(
                "{}: was written with the {what} {} = {before}, now it is {now}; use the same options, another folder, \
                 or start over",
                path.display(),
                option.name
            )));
        }
    }
    Ok(())
}
