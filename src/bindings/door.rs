use std::cell::RefCell;
use std::rc::Rc;

use pyo3::prelude::*;

use super::errors::to_py;
use crate::torch::{guarded, notes};
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
    for note in notes::take() {
        py.import("logging")?.call_method1("getLogger", ("discffusion",))?.call_method1("warning", ("%s", note))?;
    }
    match (outcome, raised) {
        (Err(Error::Interrupted), Some(raised)) => Err(raised),
        (outcome, _) => outcome.map_err(|error| to_py(py, &error)),
    }
}
