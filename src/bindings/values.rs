//! Plain data between Python and options: no text in between.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PySequence, PyString, PyTuple,
};
use serde_json::Value;

use super::errors::to_py;
use crate::config::{Fields, OptionSpec};
use crate::{Error, Result};

/// No option is a list of lists; what holds itself must end too.
const MAX_DEPTH: usize = 4;

/// Raises what the core refuses.
pub fn raised<T>(py: Python<'_>, outcome: Result<T>) -> PyResult<T> {
    outcome.map_err(|error| to_py(py, &error))
}

/// A Python value as plain data: text, a number, a list of them, or null.
///
/// # Errors
/// `Config`, naming the option.
pub fn to_value(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Value> {
    nested(name, given, 0)
}

fn nested(name: &str, given: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    let refuse = |expected: &str| {
        let message = given.repr().map(|shown| format!("{name} is {shown}; expected {expected}"));
        message.and_then(|message| raised(given.py(), Err(Error::Config(message))))
    };
    if given.is_none() {
        return Ok(Value::Null);
    }
    if given.is_instance_of::<PyBool>() {
        return Ok(given.extract::<bool>()?.into());
    }
    if given.is_instance_of::<PyString>() {
        return given.extract::<String>().map_or_else(|_| refuse("text in Unicode"), |text| Ok(text.into()));
    }
    if given.is_instance_of::<PyInt>() {
        if let Ok(number) = given.extract::<i64>() {
            return Ok(number.into());
        }
        // Too large for every option; the error of the option shows it.
        return given.extract::<f64>().map_or_else(|_| refuse("a finite number"), |number| Ok(number.into()));
    }
    if given.is_instance_of::<PyFloat>() {
        let number: f64 = given.extract()?;
        return if number.is_finite() { Ok(number.into()) } else { refuse("a finite number") };
    }
    if depth < MAX_DEPTH {
        // A scalar or an array of numpy, a tensor of torch.
        if given.hasattr("tolist")? {
            return nested(name, &given.call_method0("tolist")?, depth + 1);
        }
        let bytes = given.is_instance_of::<PyBytes>() || given.is_instance_of::<PyByteArray>();
        if !bytes && given.cast::<PySequence>().is_ok() {
            return given.try_iter()?.map(|item| nested(name, &item?, depth + 1)).collect();
        }
    }
    refuse("text, a number or a list")
}

/// A mapping as options. `check_name` refuses a name that is none.
pub fn to_fields(given: &Bound<'_, PyAny>, check_name: impl Fn(&str) -> Result<()>) -> PyResult<Fields> {
    let mut fields = Fields::new();
    for item in given.cast::<PyMapping>()?.items()?.iter() {
        let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let name = key.str()?.to_string_lossy().into_owned();
        raised(given.py(), check_name(&name))?;
        fields.insert(name.clone(), to_value(&name, &value)?);
    }
    Ok(fields)
}

/// Plain data as a Python value; lists as tuples where it is for an object that never changes.
pub fn to_object<'py>(py: Python<'py>, value: &Value, frozen: bool) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Null => Ok(py.None().into_bound(py)),
        Value::Bool(yes) => yes.into_bound_py_any(py),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => number.into_bound_py_any(py),
            (_, Some(number), _) => number.into_bound_py_any(py),
            (.., number) => number.into_bound_py_any(py),
        },
        Value::String(text) => text.into_bound_py_any(py),
        Value::Array(list) => {
            let items = list.iter().map(|item| to_object(py, item, frozen)).collect::<PyResult<Vec<_>>>()?;
            if frozen {
                PyTuple::new(py, items)?.into_bound_py_any(py)
            } else {
                PyList::new(py, items)?.into_bound_py_any(py)
            }
        }
        Value::Object(fields) => to_dict(py, fields)?.into_bound_py_any(py),
    }
}

/// Options as a dictionary, sorted by name.
pub fn to_dict<'py>(py: Python<'py>, fields: &Fields) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in fields {
        dict.set_item(name, to_object(py, value, false)?)?;
    }
    Ok(dict)
}

/// A table of options as a list of dictionaries.
pub fn to_table<'py>(py: Python<'py>, options: &[OptionSpec]) -> PyResult<Bound<'py, PyAny>> {
    let table = serde_json::to_value(options).expect("options are plain data");
    to_object(py, &table, false)
}
