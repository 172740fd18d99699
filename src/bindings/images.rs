use ndarray::Array3;
use numpy::{IntoPyArray, PyArray3, PyReadonlyArray3};
use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::enter::enter;
pub use crate::encode::image::Image;
use crate::encode::image::{Preprocess, Resize, Rgb, preprocess};
use crate::{Error, Result};

impl<'a, 'py> FromPyObject<'a, 'py> for Image {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Image::Encoded(bytes.as_bytes().to_vec(), Some(pillow)));
        }
        let pixels: PyReadonlyArray3<'py, u8> = object.extract()?;
        Ok(Image::Pixels(to_rgb(&pixels)))
    }
}

/// Has Pillow decode what the core does not, for `reason`.
fn pillow(bytes: &[u8], reason: &str) -> Result<Rgb> {
    Python::attach(|py| {
        let decode = || {
            let found = py.import("discffusion._pillow")?.call_method1("decode", (PyBytes::new(py, bytes), reason))?;
            let pixels: PyReadonlyArray3<'_, u8> = found.extract()?;
            Ok(to_rgb(&pixels))
        };
        decode().map_err(|error: PyErr| match error.value(py).to_string() {
            _ if error.is_instance_of::<PyKeyboardInterrupt>(py) => Error::Interrupted,
            text if error.is_instance_of::<PyMemoryError>(py) => Error::OutOfMemory(text),
            text => Error::Image(text),
        })
    })
}

fn to_rgb(pixels: &PyReadonlyArray3<'_, u8>) -> Rgb {
    let pixels = pixels.as_array();
    let (height, width, _) = pixels.dim();
    Rgb { width, height, data: pixels.iter().copied().collect() }
}

fn to_array(py: Python<'_>, rgb: Rgb) -> Bound<'_, PyArray3<u8>> {
    let shape = (rgb.height, rgb.width, 3);
    Array3::from_shape_vec(shape, rgb.data).expect("three bytes a pixel").into_pyarray(py)
}

/// Decodes an image file's contents to uint8 [H, W, 3].
#[pyfunction]
pub fn decode_image(py: Python<'_>, data: Image) -> PyResult<Bound<'_, PyArray3<u8>>> {
    let rgb = enter(py, |_| Ok(data.rgb()?.into_owned()))?;
    Ok(to_array(py, rgb))
}

/// Brings uint8 [H, W, 3] to the size the model takes; `resize` is "squash" or "crop".
#[pyfunction]
#[pyo3(signature = (image, height, width, via, resize))]
pub fn preprocess_image<'py>(
    py: Python<'py>,
    image: Image,
    height: usize,
    width: usize,
    via: Option<usize>,
    resize: &str,
) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let resize = if resize == "crop" { Resize::Crop } else { Resize::Squash };
    let rgb = enter(py, |_| preprocess(&*image.rgb()?, &Preprocess { height, width, via, resize }))?;
    Ok(to_array(py, rgb))
}
