use ndarray::{ArrayD, IxDyn};
use numpy::{IntoPyArray, PyArrayDyn, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;
use tch::Tensor;

// Arrays are also copied where the GIL is held, outside of the door.
use crate::device::{to_vec, to_vec64};
use crate::runtime::Visit;

/// A float32 array on its way to Python.
pub struct Floats(ArrayD<f32>);

impl Floats {
    /// Copies a tensor of any device and float type.
    pub fn new(tensor: &Tensor) -> Self {
        let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        let _visit = Visit::new();
        Floats(ArrayD::from_shape_vec(IxDyn(&shape), to_vec(tensor)).expect("the data is as long as its shape says"))
    }

    pub fn into_py(self, py: Python<'_>) -> Bound<'_, PyArrayDyn<f32>> {
        self.0.into_pyarray(py)
    }
}

/// A float64 array on its way to Python.
pub struct Doubles(ArrayD<f64>);

impl Doubles {
    /// Copies a tensor of any device and float type.
    pub fn new(tensor: &Tensor) -> Self {
        let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        let _visit = Visit::new();
        Doubles(ArrayD::from_shape_vec(IxDyn(&shape), to_vec64(tensor)).expect("the data is as long as its shape says"))
    }

    pub fn into_py(self, py: Python<'_>) -> Bound<'_, PyArrayDyn<f64>> {
        self.0.into_pyarray(py)
    }
}

/// Copies a float32 array into a tensor of the same shape.
pub fn to_tensor(array: &PyReadonlyArrayDyn<'_, f32>) -> Tensor {
    let shape: Vec<i64> = array.shape().iter().map(|&n| n as i64).collect();
    let data: Vec<f32> = array.as_array().iter().copied().collect();
    // It may be kept, and so must not be an inference tensor, say.
    let _visit = Visit::new();
    Tensor::from_slice(&data).view(shape.as_slice())
}
