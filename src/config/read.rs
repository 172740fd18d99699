//! From JSON to a [`ScoreConfig`], one field at a time, with errors that name it.

use serde_json::{Map, Value};

use super::{
    Attribution, DEFAULT_RANGE, DEFAULT_STEPS, DenoisingError, Heads, Layers, MapKind, Method, Pooling, Resize,
    ScoreConfig, Times, TokenSet, Truncate, options,
};
use crate::{Error, Result};

/// No image model is near this; more would only fill the memory.
const MAX_SIDE: u64 = 16_384;

pub fn read(fields: &Map<String, Value>) -> Result<ScoreConfig> {
    if let Some(unknown) = fields.keys().find(|key| options().iter().all(|option| option.name != *key)) {
        let names: Vec<&str> = options().iter().map(|option| option.name).collect();
        return Err(Error::Config(format!("unknown option {unknown:?}; there are {}", names.join(", "))));
    }
    // An absent field and null are the same: the default.
    let get = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let default = ScoreConfig::default();
    Ok(ScoreConfig {
        method: choice(get("method"), "method", default.method, Method::from_name, Method::NAMES)?,
        denoising_weight: match get("denoising_weight") {
            None => default.denoising_weight,
            Some(value) => number(value)
                .filter(|x| *x >= 0.0)
                .ok_or_else(|| bad("denoising_weight", value, "a finite number, 0 or more"))?,
        },
        denoising_error: choice(
            get("denoising_error"),
            "denoising_error",
            default.denoising_error,
            DenoisingError::from_name,
            DenoisingError::NAMES,
        )?,
        unconditional: match get("unconditional") {
            None => default.unconditional,
            Some(value) => value.as_bool().ok_or_else(|| bad("unconditional", value, "true or false"))?,
        },
        map: choice(get("map"), "map", default.map, MapKind::from_name, MapKind::NAMES)?,
        pooling: choice(get("pooling"), "pooling", default.pooling, Pooling::from_name, Pooling::NAMES)?,
        lambda: match get("lambda_") {
            None => default.lambda,
            Some(value) => {
                // A little beyond, the products with λ leave float32.
                let lambda = number(value).filter(|x| (1e-6..=1e6).contains(x));
                lambda.ok_or_else(|| bad("lambda_", value, "a number from 1e-6 to 1e6"))?
            }
        },
        tokens: choice(get("tokens"), "tokens", default.tokens, TokenSet::from_name, TokenSet::NAMES)?,
        layers: get("layers").map_or(Ok(default.layers), layers)?,
        heads: get("heads").map_or(Ok(default.heads), heads)?,
        attribution: choice(
            get("attribution"),
            "attribution",
            default.attribution,
            Attribution::from_name,
            Attribution::NAMES,
        )?,
        attribution_steps: match get("attribution_steps") {
            None => default.attribution_steps,
            Some(value) => whole("attribution_steps", value, 1, 1000)? as usize,
        },
        times: times(fields)?,
        resolution: get("resolution").map(|value| side("resolution", value)).transpose()?,
        via: get("via").map(|value| side("via", value)).transpose()?,
        resize: choice(get("resize"), "resize", default.resize, Resize::from_name, Resize::NAMES)?,
        batch_size: get("batch_size").map_or(Ok(default.batch_size), batch_size)?,
        truncate: choice(get("truncate"), "truncate", default.truncate, Truncate::from_name, Truncate::NAMES)?,
        seed: match get("seed") {
            None => default.seed,
            Some(value) => value
                .as_u64()
                .filter(|seed| *seed < 1 << 63)
                .ok_or_else(|| bad("seed", value, "a whole number from 0 to 2^63 − 1"))?,
        },
    })
}

pub(super) fn bad(name: &str, value: &Value, expected: &str) -> Error {
    Error::Config(format!("{name} is {value}; expected {expected}"))
}

pub(super) fn choice<T>(
    value: Option<&Value>,
    name: &str,
    default: T,
    parse: impl Fn(&str) -> Option<T>,
    names: &[&str],
) -> Result<T> {
    let Some(value) = value else {
        return Ok(default);
    };
    value.as_str().and_then(parse).ok_or_else(|| bad(name, value, &format!("one of {}", names.join(", "))))
}

pub(super) fn number(value: &Value) -> Option<f64> {
    value.as_f64().filter(|x| x.is_finite())
}

/// A whole number in a range.
pub(super) fn whole(name: &str, value: &Value, least: u64, most: u64) -> Result<u64> {
    let number = value.as_u64().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| bad(name, value, &format!("a whole number from {least} to {most}")))
}

pub(super) fn side(name: &str, value: &Value) -> Result<usize> {
    let side = value.as_u64().filter(|side| (1..=MAX_SIDE).contains(side));
    side.map(|side| side as usize).ok_or_else(|| bad(name, value, &format!("a number of pixels from 1 to {MAX_SIDE}")))
}

pub(super) fn batch_size(value: &Value) -> Result<Option<usize>> {
    if value.as_str() == Some("auto") {
        return Ok(None);
    }
    let size = value.as_u64().filter(|size| (1..=65_536).contains(size));
    size.map(|size| Some(size as usize))
        .ok_or_else(|| bad("batch_size", value, "\"auto\" or a whole number from 1 to 65536"))
}

pub(super) fn layers(value: &Value) -> Result<Layers> {
    const EXPECTED: &str = "all, last_blocks, last(n), a group of layers such as down, mid or up, or a list of layers such as [\"down.0.1\", \"mid.0\"]";
    let wrong = || bad("layers", value, EXPECTED);
    if let Some(list) = value.as_array() {
        let names: Option<Vec<String>> = list.iter().map(|name| name.as_str().map(str::to_owned)).collect();
        let names = names.filter(|names| !names.is_empty()).ok_or_else(wrong)?;
        if let Some(twice) = (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
            return Err(Error::Config(format!("layers names {:?} twice", names[twice])));
        }
        return Ok(Layers::Named(names));
    }
    match value.as_str().ok_or_else(wrong)? {
        "all" => Ok(Layers::All),
        "last_blocks" => Ok(Layers::LastBlocks),
        // Whether there is such a group is for the model to say.
        name if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => {
            Ok(Layers::Group(name.to_owned()))
        }
        name => {
            let count = name.strip_prefix("last(").and_then(|rest| rest.strip_suffix(')')).and_then(|n| n.parse().ok());
            count.filter(|&n: &usize| n > 0).map(Layers::Last).ok_or_else(wrong)
        }
    }
}

fn heads(value: &Value) -> Result<Heads> {
    let wrong = || bad("heads", value, "mean, attributed, learned, or a list of head indices such as [0, 2]");
    if let Some(list) = value.as_array() {
        let heads: Option<Vec<usize>> = list.iter().map(|head| head.as_u64().map(|head| head as usize)).collect();
        let heads = heads.filter(|heads| !heads.is_empty()).ok_or_else(wrong)?;
        if let Some(twice) = (1..heads.len()).find(|&i| heads[..i].contains(&heads[i])) {
            return Err(Error::Config(format!("heads lists {} twice", heads[twice])));
        }
        return Ok(Heads::Subset(heads));
    }
    match value.as_str() {
        Some("mean") => Ok(Heads::Mean),
        Some("attributed") => Ok(Heads::Attributed),
        Some("learned") => Ok(Heads::Learned),
        _ => Err(wrong()),
    }
}

/// The three ways to say at which noise a pair is scored.
const TIMES: [&str; 3] = ["steps", "timesteps", "noise_levels"];

fn times(fields: &Map<String, Value>) -> Result<Times> {
    let get = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let given: Vec<&str> = TIMES.into_iter().filter(|name| get(name).is_some()).collect();
    if given.len() > 1 {
        return Err(Error::Config(format!(
            "{} exclude each other; give one of steps, timesteps and noise_levels",
            given.join(" and ")
        )));
    }
    if let ("timesteps" | "noise_levels", Some(range)) = (*given.first().unwrap_or(&""), get("noise_range")) {
        return Err(Error::Config(format!(
            "noise_range is {range}, but {} says every noise level itself; give noise_range with steps, or not at all",
            given[0]
        )));
    }
    if let Some(value) = get("timesteps") {
        let list: Option<Vec<f64>> =
            value.as_array().and_then(|list| list.iter().map(|t| number(t).filter(|t| *t >= 0.0)).collect());
        return list
            .filter(|list| !list.is_empty())
            .map(Times::Timesteps)
            .ok_or_else(|| bad("timesteps", value, "a list of numbers, 0 or more"));
    }
    if let Some(value) = get("noise_levels") {
        let list: Option<Vec<f64>> = value.as_array().and_then(|list| list.iter().map(level).collect());
        return list
            .filter(|list| !list.is_empty())
            .map(Times::NoiseLevels)
            .ok_or_else(|| bad("noise_levels", value, "a list of numbers from 0 to 1"));
    }
    let steps = (get("steps").map(|value| {
        value.as_i64().filter(|steps| *steps >= 1).ok_or_else(|| bad("steps", value, "a whole number, 1 or more"))
    }))
    .transpose()?;
    let steps = steps.unwrap_or(DEFAULT_STEPS);
    // A configuration that was written before there were ranges names all three ways, and no range.
    let old = TIMES.iter().all(|name| fields.contains_key(*name));
    let (low, high) = match fields.get("noise_range") {
        None if !old => DEFAULT_RANGE,
        None | Some(Value::Null) => return Ok(Times::Steps(steps)),
        Some(value) => range(value)?,
    };
    Ok(Times::Range { low, high, steps })
}

fn level(value: &Value) -> Option<f64> {
    number(value).filter(|level| (0.0..=1.0).contains(level))
}

fn range(value: &Value) -> Result<(f64, f64)> {
    let levels: Option<Vec<f64>> = value.as_array().and_then(|list| list.iter().map(level).collect());
    match levels.as_deref() {
        Some(&[low, high]) if low <= high => Ok((low, high)),
        _ => Err(bad("noise_range", value, "the lowest and the highest noise level, both from 0 to 1, or null")),
    }
}

/// A number as JSON, without a fraction where it has none.
pub fn plain_number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { Value::from(x as i64) } else { Value::from(x) }
}
