//! Pixels of any size to the size that the autoencoder expects.

use super::Rgb;
use super::resample::resample;
pub use crate::config::Resize;
use crate::{Error, Result};

/// The longest side, in pixels, that an image may be scaled to.
pub const MAX_SIDE: usize = 16_384;

/// The size that images are scaled to, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preprocess {
    /// Rows of the result, in pixels.
    pub height: usize,
    /// Columns of the result, in pixels.
    pub width: usize,
    /// An intermediate size, in pixels (Table 1 of the paper: a coarser image, scaled up to the model's resolution).
    ///
    /// With `squash` the image is first scaled to `via × via`. With `crop` it is first cropped to the ratio of the
    /// result and scaled so that its shorter side is `via`; the second step only scales.
    pub via: Option<usize>,
    /// How images of another aspect ratio are treated.
    pub resize: Resize,
}

/// Scales `image` to `how.height × how.width` with Pillow's antialiased bicubic filter, by way of `how.via` if given.
///
/// # Errors
/// [`Error::Config`] if a size, including that of the intermediate step, is zero or above [`MAX_SIDE`];
/// [`Error::Image`] if the image has no pixels or its data do not fit its size.
pub fn preprocess(image: &Rgb, how: &Preprocess) -> Result<Rgb> {
    image.check()?;
    for (name, size) in [("height", how.height), ("width", how.width), ("via", how.via.unwrap_or(1))] {
        if !(1..=MAX_SIDE).contains(&size) {
            return Err(Error::Config(format!(
                "{name}={size} was given, expected 1 to {MAX_SIDE} pixels; choose another size"
            )));
        }
    }
    let size = (how.width, how.height);
    let Some(via) = how.via.map(|via| via_size(via, size, how.resize)) else {
        return Ok(fit(image, size, how.resize));
    };
    if via.0.max(via.1) > MAX_SIDE {
        return Err(Error::Config(format!(
            "on the way to {} x {} the image would become {} x {}, expected at most {MAX_SIDE} a side; \
             choose a smaller via or resize=\"squash\"",
            size.0, size.1, via.0, via.1
        )));
    }
    Ok(fit(&fit(image, via, how.resize), size, how.resize))
}

/// The part of an image of `(width, height)` pixels that [`preprocess`] keeps: left, top, right and bottom edge, in
/// pixels of the image.
pub fn view(image: (usize, usize), how: &Preprocess) -> [f64; 4] {
    let size = (how.width, how.height);
    let whole = [0.0, 0.0, image.0 as f64, image.1 as f64];
    match how.via.map(|via| via_size(via, size, how.resize)) {
        None => within(whole, image, size, how.resize),
        Some(via) => within(within(whole, image, via, how.resize), via, size, how.resize),
    }
}

/// The part of `view` that is left when an image of `image` pixels, which shows `view`, is scaled to `size`.
fn within(view: [f64; 4], image: (usize, usize), size: (usize, usize), resize: Resize) -> [f64; 4] {
    if image == size || resize == Resize::Squash {
        return view;
    }
    let scaled = cover(image, size);
    let cut = |from: f64, to: f64, scaled: usize, kept: usize| {
        let (start, step) = (half_to_even(scaled - kept), (to - from) / scaled as f64);
        [from + start as f64 * step, from + (start + kept) as f64 * step]
    };
    let [left, right] = cut(view[0], view[2], scaled.0, size.0);
    let [top, bottom] = cut(view[1], view[3], scaled.1, size.1);
    [left, top, right, bottom]
}

/// The size (width, height) of the intermediate step.
fn via_size(via: usize, (width, height): (usize, usize), resize: Resize) -> (usize, usize) {
    let long = |other: usize, short: usize| (via * other + short / 2) / short;
    match resize {
        Resize::Squash => (via, via),
        Resize::Crop if width < height => (via, long(height, width)),
        Resize::Crop => (long(width, height), via),
    }
}

fn fit(image: &Rgb, (width, height): (usize, usize), resize: Resize) -> Rgb {
    if (image.width, image.height) == (width, height) {
        return image.clone();
    }
    let scaled = match resize {
        Resize::Squash => (width, height),
        Resize::Crop => cover((image.width, image.height), (width, height)),
    };
    let (left, top) = (half_to_even(scaled.0 - width), half_to_even(scaled.1 - height));
    resample(image, scaled, left..left + width, top..top + height)
}

/// The smallest size (width, height) of the image's own ratio that covers `width × height`.
fn cover(image: (usize, usize), (width, height): (usize, usize)) -> (usize, usize) {
    if width * image.1 >= height * image.0 {
        (width, width * image.1 / image.0)
    } else {
        (height * image.0 / image.1, height)
    }
}

/// Half of `n`; of two integers as near, the even one.
fn half_to_even(n: usize) -> usize {
    n / 2 + usize::from(n % 4 == 3)
}
