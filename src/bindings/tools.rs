use std::path::PathBuf;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::json;

use super::enter::enter;
use super::scorer::strs;
use crate::checkpoint::{self, Json};
use crate::config;
use crate::encode::text::{Segment, Tokens};
use crate::encode::tokenizer::{self, Encoding, Truncate};
use crate::families::{facts, of_index};
use crate::noise::Time;
use crate::runtime::teams;

/// What is known of the families of models, as a JSON list.
#[pyfunction]
pub fn families() -> String {
    json!(facts()).to_string()
}

/// What an index, the text of `model_index.json`, says of the family, as a JSON object: its name, whether a family knows
/// the pipeline's class, and why the model is not supported, or null.
#[pyfunction]
pub fn family_of(py: Python<'_>, index: &str) -> PyResult<String> {
    enter(py, |_| {
        let found = of_index(&Json::parse("model_index.json".as_ref(), index.as_bytes())?)?;
        let (name, by_class, refusal) = (found.family.facts().name, found.by_class, found.refusal);
        Ok(json!({"name": name, "by_class": by_class, "refusal": refusal}).to_string())
    })
}

/// How the names of a part's weight files begin.
#[pyfunction]
pub fn weights_stem(part: &str) -> &'static str {
    checkpoint::weights_stem(part)
}

/// ` (did you mean 'steps'?)`, or nothing where no name is near.
#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "PyO3 gives lists by value")]
pub fn did_you_mean(name: &str, names: Vec<String>) -> String {
    config::did_you_mean(name, &strs(&names))
}

/// Whether libtorch sees a CUDA device.
#[pyfunction]
pub fn cuda_available() -> bool {
    tch::Cuda::is_available()
}

/// How many CUDA devices libtorch sees.
#[pyfunction]
pub fn cuda_device_count() -> i64 {
    if tch::Cuda::is_available() { tch::Cuda::device_count() } else { 0 }
}

/// To be called before a fork.
#[pyfunction]
pub fn before_fork() {
    teams::before_fork();
}

/// To be called in the child after a fork.
#[pyfunction]
pub fn after_fork_in_child() {
    teams::after_fork_in_child();
}

/// A checkpoint's tokenizer on its own.
#[pyclass(frozen, module = "discffusion._core")]
pub struct Tokenizer(tokenizer::Tokenizer);

#[pymethods]
impl Tokenizer {
    /// Reads the folder `tokenizer` of a checkpoint, for a text encoder of `m` positions.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf, m: usize) -> PyResult<Self> {
        enter(py, |_| tokenizer::Tokenizer::open(&path, m)).map(Tokenizer)
    }

    /// Token ids and what they stand for.
    fn encode<'py>(&self, py: Python<'py>, text: &str, truncate: &str) -> PyResult<Bound<'py, PyDict>> {
        let encoding = enter(py, |_| self.0.encode(text, truncation(truncate)?))?;
        encoding_dict(py, &encoding)
    }
}

/// Reads the option `truncate`.
pub fn truncation(name: &str) -> crate::Result<Truncate> {
    crate::config::one_of().parse("truncate", &name.into())
}

/// Tokens as a dictionary of plain data and int64 arrays, column by column; where the columns of an encoder stand, and which
/// of them are the text's own; by encoder the ids. A column without an encoder has the id -1.
pub fn tokens_dict<'py>(py: Python<'py>, tokens: &Tokens) -> PyResult<Bound<'py, PyDict>> {
    let (mut ids, mut strings, mut offsets, mut segments) = (vec![], vec![], vec![], vec![]);
    for (Segment { encoder, start, columns, .. }, encoding) in tokens.by_segment() {
        if let Some(encoding) = encoding {
            ids.extend(&encoding.ids);
            strings.extend(encoding.strings.iter().map(String::as_str));
            offsets.extend(&encoding.offsets);
        }
        ids.resize(start + columns, -1);
        strings.resize(start + columns, "");
        offsets.resize(start + columns, (0, 0));
        let own = encoding.map(|encoding| (start + encoding.content.start, start + encoding.content.end));
        segments.push((encoder, (start, start + columns), own));
    }
    let dict = PyDict::new(py);
    dict.set_item("ids", numpy::PyArray1::from_slice(py, &ids))?;
    dict.set_item("strings", strings)?;
    dict.set_item("offsets", offsets)?;
    dict.set_item("segments", segments)?;
    let ids = tokens.encodings.iter().map(|encoding| numpy::PyArray1::from_slice(py, &encoding.ids));
    dict.set_item("ids_by_encoder", ids.collect::<Vec<_>>())?;
    dict.set_item("needed", tokens.needed())?;
    dict.set_item("truncated", tokens.truncated())?;
    Ok(dict)
}

fn encoding_dict<'py>(py: Python<'py>, encoding: &Encoding) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("ids", numpy::PyArray1::from_slice(py, &encoding.ids))?;
    dict.set_item("strings", &encoding.strings)?;
    dict.set_item("offsets", &encoding.offsets)?;
    dict.set_item("content", (encoding.content.start, encoding.content.end))?;
    dict.set_item("needed", encoding.needed)?;
    dict.set_item("truncated", encoding.truncated)?;
    Ok(dict)
}

/// Times as a list of numbers, whole ones where all are.
pub fn times_list<'py>(py: Python<'py>, times: &[Time]) -> PyResult<Bound<'py, PyAny>> {
    let whole: Option<Vec<i64>> = times.iter().map(|time| time.whole()).collect();
    match whole {
        Some(whole) => whole.into_bound_py_any(py),
        None => times.iter().map(|time| time.0).collect::<Vec<f64>>().into_bound_py_any(py),
    }
}
