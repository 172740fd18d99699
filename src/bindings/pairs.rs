use ndarray::{Array2, ArrayView1};
use numpy::{PyArray2, PyReadonlyArray2};
use pyo3::prelude::*;

use super::enter::{Raised, enter, warn};
use crate::runtime::outside;
use crate::score::{self, Event};
use crate::{Error, Result};

/// Encoded images and texts of a request. May be used from several threads.
#[pyclass(frozen, module = "discffusion._core")]
pub struct Prepared(score::Prepared);

impl Prepared {
    pub fn new(prepared: score::Prepared) -> Self {
        Prepared(prepared)
    }
}

#[pymethods]
impl Prepared {
    /// The score of each pair (image, text) at some of the timesteps, by index; float64 [n, steps].
    #[pyo3(signature = (pairs, steps, progress))]
    fn score<'py>(
        &self,
        py: Python<'py>,
        pairs: PyReadonlyArray2<'py, i64>,
        steps: Vec<usize>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let pairs = pairs.as_array().to_owned();
        let rows = enter(py, |raised| {
            let (images, texts, all) = self.0.sizes();
            let pairs = indices(&pairs, images, texts)?;
            if let Some(step) = steps.iter().find(|&&step| step >= all) {
                return Err(Error::Config(format!("there is no timestep {step} among {all}")));
            }
            self.0.score(&pairs, &steps, |event| tell(event, progress.as_ref(), raised))
        })?;
        Ok(PyArray2::from_vec2(py, &rows)?)
    }
}

/// Rows (image, text) as indices of a request.
pub fn indices(pairs: &Array2<i64>, images: usize, texts: usize) -> Result<Vec<(usize, usize)>> {
    let index = |row: ArrayView1<i64>| match (row.first(), row.get(1)) {
        (Some(&i), Some(&j)) if (0..images as i64).contains(&i) && (0..texts as i64).contains(&j) => {
            Ok((i as usize, j as usize))
        }
        _ => Err(Error::Config(format!("pair {row} is not an (image, text) index of this request"))),
    };
    pairs.rows().into_iter().map(index).collect()
}

/// Passes on to Python what the core says while it works.
pub fn tell(event: Event, progress: Option<&Py<PyAny>>, raised: &Raised) -> Result<()> {
    let say = |py: Python<'_>| match (event, progress) {
        (Event::Progress { done, total }, Some(call)) => call.call1(py, (done, total)).map(drop),
        (Event::Progress { .. }, None) => Ok(()),
        (Event::SmallerBatch(size), _) => {
            warn(py, format!("memory ran out; going on with a batch_size of {size}, which changes no result"))
        }
    };
    let said = outside(|| Python::attach(say));
    said.map_err(|error| raised.stop(error))
}
