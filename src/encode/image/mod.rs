//! Images: bytes become pixels, pixels become the size that the autoencoder expects.

mod complete;
mod decode;
mod preprocess;
mod resample;

pub use decode::{MAX_PIXELS, decode, decode_known};
pub use preprocess::{MAX_SIDE, Preprocess, Resize, preprocess, view};

use crate::{Error, Result};

/// An image of `height × width` pixels: sRGB, 8 bit, rows from the top, red-green-blue within a pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb {
    /// Columns, in pixels.
    pub width: usize,
    /// Rows, in pixels.
    pub height: usize,
    /// `height · width · 3` bytes.
    pub data: Vec<u8>,
}

impl Rgb {
    /// Checks that there is at least one pixel and that `data` holds all of them.
    ///
    /// # Errors
    /// [`Error::Image`] if not.
    pub(crate) fn check(&self) -> Result<()> {
        let Self { width, height, data } = self;
        let expected = width.checked_mul(*height).and_then(|pixels| pixels.checked_mul(3));
        if *width == 0 || *height == 0 || expected != Some(data.len()) {
            return Err(Error::Image(format!(
                "an image of {width} x {height} pixels with {} bytes was given, expected at least one pixel and \
                 3 bytes a pixel; pass an array of shape [height, width, 3]",
                data.len()
            )));
        }
        Ok(())
    }
}
