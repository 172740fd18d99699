use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError};
use pyo3::prelude::*;

use crate::Error;

/// The exception of `discffusion.errors` that stands for an error.
///
/// The classes live in Python since each has two bases, which pyo3 cannot make.
pub fn to_py(py: Python<'_>, error: &Error) -> PyErr {
    if matches!(error, Error::Interrupted) {
        return PyKeyboardInterrupt::new_err(());
    }
    let message = error.to_string();
    let made = py
        .import("discffusion.errors")
        .and_then(|errors| errors.getattr(error.kind()))
        .and_then(|class| class.call1((&message,)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(why) => PyRuntimeError::new_err(format!("{message} ({}: {why})", error.kind())),
    }
}
