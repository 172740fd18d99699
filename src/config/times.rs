//! At which times a pair is scored: `steps` over a `noise_range`, `timesteps`, or `noise_levels`.

use serde_json::{Value, json};

use super::declare::{Field, Fields, OptionSpec};
use super::rules::{Rule, list, number, or_null, pair, whole};
use crate::{Error, Result};

/// At which times a pair is scored.
#[derive(Debug, Clone, PartialEq)]
pub enum Times {
    /// The sampler's steps over the checkpoint's whole schedule.
    Steps(i64),
    /// Noise levels from `high` down to `low`, evenly spaced, both included; one step is the middle.
    Range {
        /// The lowest level, 0 to 1.
        low: f64,
        /// The highest level, 0 to 1.
        high: f64,
        /// How many levels.
        steps: i64,
    },
    /// Times of the model's process as given: training timesteps of a diffusion model, `T σ` of a flow.
    Timesteps(Vec<f64>),
    /// `t = round(level · T)` of a diffusion model, `σ` of a flow.
    NoiseLevels(Vec<f64>),
}

impl Times {
    /// The three ways to say at which times a pair is scored; they exclude each other.
    pub const WAYS: [&'static str; 3] = ["steps", "timesteps", "noise_levels"];

    /// What is scored where nothing is said.
    pub const DEFAULT: Times = Times::Range { low: DEFAULT_RANGE[0], high: DEFAULT_RANGE[1], steps: DEFAULT_STEPS };
}

const DEFAULT_RANGE: [f64; 2] = [0.3, 0.8];
const DEFAULT_STEPS: i64 = 10;

/// The four options that are one [`Times`].
pub struct TimeOptions;

fn steps() -> Rule<Option<i64>> {
    or_null(whole(1..), "")
}

fn noise_range() -> Rule<Option<[f64; 2]>> {
    let range = pair("float_pair", "the lowest and the highest noise level", number(0.0..=1.0));
    or_null(range.check(|[low, high]| if low <= high { Ok(()) } else { Err(None) }), "the model's whole schedule")
}

fn timesteps() -> Rule<Option<Vec<f64>>> {
    or_null(list("float_list", number(0.0..)), "")
}

fn noise_levels() -> Rule<Option<Vec<f64>>> {
    or_null(list("float_list", number(0.0..=1.0)), "")
}

impl Field<Times> for TimeOptions {
    fn rows(&self, _: &'static str, _: &str) -> Vec<OptionSpec> {
        let row = OptionSpec::new;
        let steps_help = "Number of timesteps to average over: evenly spaced noise levels of noise_range";
        vec![
            row("steps", steps_help, steps().allowed),
            row("noise_range", "Lowest and highest noise level that steps are spread over", noise_range().allowed),
            row("timesteps", "Timesteps to average over, instead of steps; 0 is without noise", timesteps().allowed),
            row("noise_levels", "Noise levels to average over, instead of steps", noise_levels().allowed),
        ]
    }

    fn read(&self, _: &str, fields: &Fields, _: Times) -> Result<Times> {
        let null = Value::Null;
        let get = |name: &str| fields.get(name).unwrap_or(&null);
        let given: Vec<&str> = Times::WAYS.into_iter().filter(|name| !get(name).is_null()).collect();
        if given.len() > 1 {
            return Err(Error::Config(format!(
                "{} exclude each other; give one of steps, timesteps and noise_levels",
                given.join(" and ")
            )));
        }
        if let (Some(way @ &("timesteps" | "noise_levels")), range @ Value::Array(_)) =
            (given.first(), get("noise_range"))
        {
            return Err(Error::Config(format!(
                "noise_range is {range}, but {way} says every noise level itself; give noise_range with steps, or not \
                 at all"
            )));
        }
        if let Some(times) = timesteps().parse("timesteps", get("timesteps"))? {
            return Ok(Times::Timesteps(times));
        }
        if let Some(levels) = noise_levels().parse("noise_levels", get("noise_levels"))? {
            return Ok(Times::NoiseLevels(levels));
        }
        let steps = steps().parse("steps", get("steps"))?.unwrap_or(DEFAULT_STEPS);
        // A configuration that was written before there were ranges names all three ways, and no range.
        let old = Times::WAYS.iter().all(|name| fields.contains_key(*name));
        let range = match fields.get("noise_range") {
            None if !old => Some(DEFAULT_RANGE),
            None => None,
            Some(range) => noise_range().parse("noise_range", range)?,
        };
        Ok(range.map_or(Times::Steps(steps), |[low, high]| Times::Range { low, high, steps }))
    }

    fn write(&self, _: &str, times: &Times, fields: &mut Fields) {
        for name in Times::WAYS.into_iter().chain(["noise_range"]) {
            fields.insert(name.to_owned(), Value::Null);
        }
        match times {
            Times::Steps(steps) => fields["steps"] = json!(steps),
            Times::Range { low, high, steps } => {
                fields["steps"] = json!(steps);
                fields["noise_range"] = json!([low, high]);
            }
            Times::Timesteps(times) => fields["timesteps"] = times.iter().map(|&time| plain_number(time)).collect(),
            Times::NoiseLevels(levels) => fields["noise_levels"] = json!(levels),
        }
    }
}

/// A number as JSON, without a fraction where it has none.
pub fn plain_number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { Value::from(x as i64) } else { Value::from(x) }
}
