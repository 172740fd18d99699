//! Images: decoding of files, and scaling to the size that the autoencoder expects.

mod complete;
mod decode;
mod preprocess;
mod resample;

pub use decode::{MAX_PIXELS, decode, decode_known};
pub use preprocess::{MAX_SIDE, Preprocess, Resize, preprocess, view};

use std::borrow::Cow;

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

/// An image of a caller. Pixels take ten times the memory of a photograph's file, so a file is decoded only when it is
/// needed.
#[derive(Clone, Debug)]
pub enum Image {
    /// The contents of a file, and a decoder for formats that this crate does not support.
    Encoded(Vec<u8>, Option<Otherwise>),
    /// Pixels.
    Pixels(Rgb),
}

/// A decoder for the contents of a file that this crate cannot decode; the text says why it cannot.
pub type Otherwise = fn(&[u8], &str) -> Result<Rgb>;

impl Image {
    /// The pixels of the image.
    ///
    /// # Errors
    /// [`Error::Image`] if the file cannot be decoded, or the number of bytes does not fit the size.
    pub fn rgb(&self) -> Result<Cow<'_, Rgb>> {
        match self {
            Image::Encoded(bytes, None) => decode(bytes).map(Cow::Owned),
            Image::Encoded(bytes, Some(otherwise)) => match decode_known(bytes)? {
                Ok(rgb) => Ok(Cow::Owned(rgb)),
                Err(reason) => otherwise(bytes, &reason).map(Cow::Owned),
            },
            Image::Pixels(rgb) => rgb.check().map(|()| Cow::Borrowed(rgb)),
        }
    }
}

impl From<Rgb> for Image {
    fn from(rgb: Rgb) -> Self {
        Image::Pixels(rgb)
    }
}
