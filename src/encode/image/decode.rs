//! Decoding of image files to pixels.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{Rgb, complete::is_complete};
use crate::{Error, Result};

/// The most pixels that an image may have: Pillow's default bound for decompression bombs (a quarter of a gigabyte
/// at three bytes a pixel, twice). Larger images are refused before anything is allocated for them.
pub const MAX_PIXELS: u64 = 178_956_970;
/// The formats that decoders are built in for.
const KNOWN: [ImageFormat; 6] =
    [ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Tiff, ImageFormat::WebP];
/// The longest side, in pixels. Only artificial images are longer, and resampling needs memory in proportion to it.
const MAX_LENGTH: u32 = 1 << 20;
/// The memory that a decoder may take, in bytes: [`MAX_PIXELS`] at 16 bit with alpha.
const MAX_BYTES: u64 = MAX_PIXELS * 8;
/// The memory that a decoder may take before the size of the image is known, in bytes. A compressed colour profile can
/// be a thousand times as large as the file.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// Decodes the first image of a BMP, GIF, JPEG, PNG, TIFF or WebP file (recognised by content) to 8-bit sRGB.
///
/// The EXIF orientation is applied. Grey, palette and CMYK images are converted to RGB, transparent ones are
/// composited over white, 16-bit samples `v` become `round(v / 257)`, floating-point samples are taken to lie in
/// `[0, 1]`. Colour profiles are not applied.
///
/// # Errors
/// [`Error::Image`] if the bytes are of none of these formats, of a kind that is not supported, damaged or truncated,
/// if the image has no pixels or more than [`MAX_PIXELS`], or if a side is longer than 1,048,576 pixels.
pub fn decode(bytes: &[u8]) -> Result<Rgb> {
    read(bytes).map_err(|(Failure::Unknown(error) | Failure::Bad(error))| error)
}

/// [`decode`] for callers with other decoders. If this crate does not support the file's format, or its variant of the
/// format, the inner result is the reason.
///
/// # Errors
/// As [`decode`], for files of supported formats.
pub fn decode_known(bytes: &[u8]) -> Result<std::result::Result<Rgb, String>> {
    match read(bytes) {
        Ok(rgb) => Ok(Ok(rgb)),
        Err(Failure::Unknown(error)) => Ok(Err(error.to_string())),
        Err(Failure::Bad(error)) => Err(error),
    }
}

/// Why a file could not be decoded.
enum Failure {
    /// Its format is not supported.
    Unknown(Error),
    /// It is damaged or too large.
    Bad(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Bad(error)
    }
}

fn read(bytes: &[u8]) -> std::result::Result<Rgb, Failure> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| Error::Image(format!("the image cannot be read: {error}")))?;
    reader.limits(memory(MAX_HEADER_BYTES));
    let known = |format: &ImageFormat| KNOWN.contains(format);
    let Some(format) = reader.format().filter(known) else {
        return Err(Failure::Unknown(Error::Image(format!(
            "{} bytes were given that are no image known here; expected BMP, GIF, JPEG, PNG, TIFF or WebP",
            bytes.len()
        ))));
    };
    let fail = |error: image::ImageError| {
        // Decoders report over several lines.
        let reason = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        let said = Error::Image(format!(
            "the {} image cannot be decoded: {reason}; check the file or save it anew",
            name(format)
        ));
        if matches!(error, image::ImageError::Unsupported(_)) { Failure::Unknown(said) } else { Failure::Bad(said) }
    };

    let mut decoder = reader.into_decoder().map_err(fail)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, decoder.total_bytes())?;
    decoder.set_limits(memory(MAX_BYTES)).map_err(fail)?;
    if !is_complete(format, bytes, u64::from(width) * u64::from(height)) {
        return Err(Failure::Bad(Error::Image(format!(
            "the {} image is truncated after {} bytes; fetch the file again",
            name(format),
            bytes.len()
        ))));
    }

    // Damaged metadata are no reason to refuse the image.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(fail)?;
    image.apply_orientation(orientation);
    Ok(to_rgb(image))
}

fn memory(bytes: u64) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(bytes);
    limits
}

fn name(format: ImageFormat) -> String {
    format.extensions_str()[0].to_uppercase()
}

fn check_size(width: u32, height: u32, bytes: u64) -> Result<()> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(Error::Image(format!("the image has {width} x {height} pixels, expected at least one")));
    }
    if pixels > MAX_PIXELS || width.max(height) > MAX_LENGTH || bytes > MAX_BYTES {
        return Err(Error::Image(format!(
            "the image has {width} x {height} pixels in {bytes} bytes, expected at most {MAX_PIXELS} pixels, \
             {MAX_LENGTH} a side, in {MAX_BYTES} bytes; scale it down first"
        )));
    }
    Ok(())
}

/// Any kind of pixel to 8-bit RGB, transparent ones over white.
fn to_rgb(image: DynamicImage) -> Rgb {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let data = if image.color().has_alpha() {
        let mut rgba = image.into_rgba8().into_raw();
        over_white(&mut rgba);
        rgba
    } else {
        image.into_rgb8().into_raw()
    };
    Rgb { width, height, data }
}

/// Turns RGBA into RGB in place: `round((c·α + 255·(255 − α)) / 255)`.
fn over_white(pixels: &mut Vec<u8>) {
    let count = pixels.len() / 4;
    for at in 0..count {
        let alpha = u32::from(pixels[4 * at + 3]);
        for channel in 0..3 {
            let colour = u32::from(pixels[4 * at + channel]);
            pixels[3 * at + channel] = ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        }
    }
    pixels.truncate(3 * count);
}
