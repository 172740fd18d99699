use numpy::PyArray2;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arrays::Floats;
use crate::score::HeadScores;

/// Numbers of heads by layer, and denoising terms.
pub type Numbers<'py> = (Bound<'py, PyDict>, Option<Bound<'py, PyArray2<f64>>>);

/// Numbers of heads on their way to Python.
pub struct OfHeads {
    layers: Vec<(String, Floats)>,
    denoising: Option<Vec<Vec<f64>>>,
}

impl OfHeads {
    pub fn new(found: &HeadScores) -> Self {
        let layers = found.layers.iter().map(|(name, numbers)| (name.clone(), Floats::new(numbers))).collect();
        OfHeads { layers, denoising: found.denoising.clone() }
    }

    pub fn into_py(self, py: Python<'_>) -> PyResult<Numbers<'_>> {
        let dict = PyDict::new(py);
        for (name, numbers) in self.layers {
            dict.set_item(name, numbers.into_py(py))?;
        }
        Ok((dict, self.denoising.map(|rows| PyArray2::from_vec2(py, &rows)).transpose()?))
    }
}
