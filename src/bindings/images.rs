use ndarray::Array3;
use numpy::{IntoPyArray, PyArray3, PyReadonlyArray3};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::door::enter;
use crate::Result;
use crate::encode::image::{Preprocess, Resize, Rgb, decode_known, preprocess};

/// An image that Python handed over, as an encoded file or as pixels `[H, W, 3]`.
pub struct Image(Rgb);

impl<'a, 'py> FromPyObject<'a, 'py> for Image {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let Ok(bytes) = object.cast::<PyBytes>() else {
            let pixels: PyReadonlyArray3<'py, u8> = object.extract()?;
            return Ok(Image(to_rgb(&pixels)));
        };
        let data = bytes.as_bytes();
        match enter(py, |_| decode_known(data))? {
            Ok(rgb) => Ok(Image(rgb)),
            Err(reason) => {
                let pillow = py.import("discffusion._pillow")?;
                let pixels: PyReadonlyArray3<'py, u8> = pillow.call_method1("decode", (bytes, reason))?.extract()?;
                Ok(Image(to_rgb(&pixels)))
            }
        }
    }
}

impl Image {
    /// The pixels, if there are any.
    pub fn into_rgb(self) -> Result<Rgb> {
        self.0.check().map(|()| self.0)
    }
}

/// Every image as pixels.
pub fn decode_all(images: Vec<Image>) -> Result<Vec<Rgb>> {
    images.into_iter().map(Image::into_rgb).collect()
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
    Ok(to_array(py, data.0))
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
    let rgb = enter(py, |_| preprocess(&image.into_rgb()?, &Preprocess { height, width, via, resize }))?;
    Ok(to_array(py, rgb))
}
