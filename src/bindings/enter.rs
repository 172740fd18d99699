use std::cell::RefCell;
use std::ffi::CString;
use std::rc::Rc;

use pyo3::exceptions::PyUserWarning;
use pyo3::prelude::*;

use super::errors::to_py;
use crate::runtime::warnings::Truncation;
use crate::runtime::{guarded, warnings};
use crate::{Error, Result};

/// Holds an exception that Python raised while the core was at work.
#[derive(Clone, Default)]
pub struct Raised(Rc<RefCell<Option<PyErr>>>);

impl Raised {
    /// Keeps the exception and ends the core's work.
    pub fn stop(&self, raised: PyErr) -> Error {
        *self.0.borrow_mut() = Some(raised);
        Error::Interrupted
    }
}

/// The one way from Python into the core: the GIL is released, Ctrl-C is noticed, panics and errors become exceptions.
pub fn enter<T: Send>(py: Python<'_>, work: impl FnOnce(&Raised) -> Result<T> + Send) -> PyResult<T> {
    let (outcome, raised) = py.detach(|| {
        let raised = Raised::default();
        let signals = raised.clone();
        let poll = move || match Python::attach(|py| py.check_signals()) {
            Ok(()) => false,
            Err(signal) => {
                signals.stop(signal);
                true
            }
        };
        let outcome = guarded(poll, || work(&raised));
        (outcome, raised.0.take())
    });
    for warning in warnings::take() {
        py.import("logging")?.call_method1("getLogger", ("discffusion",))?.call_method1("warning", ("%s", warning))?;
    }
    if let (Some(truncation), Ok(_)) = (warnings::take_truncated(), &outcome) {
        warn_truncated(py, truncation)?;
    }
    match (outcome, raised) {
        (Err(Error::Interrupted), Some(raised)) => Err(raised),
        (outcome, _) => outcome.map_err(|error| to_py(py, &error)),
    }
}

/// Warns at the caller's line that texts were cut.
pub fn warn_truncated(py: Python<'_>, Truncation { count, limit }: Truncation) -> PyResult<()> {
    warn(
        py,
        format!(
            "{count} text(s) are longer than the {limit} tokens this model reads and were cut; the end token is kept"
        ),
    )
}

/// A warning at the caller's line.
pub fn warn(py: Python<'_>, message: String) -> PyResult<()> {
    PyErr::warn(py, &py.get_type::<PyUserWarning>(), &CString::new(message).expect("no zero byte"), 2)
}
