//! Bicubic resampling with antialiasing, bit-identical to Pillow's `Image.resize(size, Image.BICUBIC)`.

use std::collections::VecDeque;
use std::ops::Range;

use super::Rgb;

/// Fraction bits of a weight. Eight bits go to the sample and two to the sign and to sums above one: the products of a
/// window add up within 32 bits.
const FRACTION: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (FRACTION - 1);

/// The inputs of one output sample: the first input sample and the weights from there on, times `2^FRACTION`.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

/// The part `columns × rows` of `image` scaled to `size` (width, height), in pixels of the scaled image.
///
/// The result is what scaling all of the image and then cutting would give, but nothing outside the part is computed:
/// a long strip that is scaled to cover a square costs no more than the square.
pub(super) fn resample(image: &Rgb, size: (usize, usize), columns: Range<usize>, rows: Range<usize>) -> Rgb {
    let (width, height) = (columns.len(), rows.len());
    let across: Vec<Window> = columns.map(|x| window(image.width, size.0, x)).collect();
    let mut data = Vec::with_capacity(width * height * 3);
    // Input rows already scaled across, from row `first` on: no more than one output row needs.
    let mut scaled: VecDeque<Vec<u8>> = VecDeque::new();
    let mut first = 0;
    for Window { start, weights } in rows.map(|y| window(image.height, size.1, y)) {
        scaled.drain(..scaled.len().min(start - first));
        first = start;
        for y in start + scaled.len()..start + weights.len() {
            let row = &image.data[y * image.width * 3..][..image.width * 3];
            scaled.push_back(across.iter().flat_map(|window| pixel(row, window)).collect());
        }
        let mut sums = vec![HALF; width * 3];
        for (row, &weight) in scaled.iter().zip(&weights) {
            for (sum, &sample) in sums.iter_mut().zip(row) {
                *sum += i32::from(sample) * weight;
            }
        }
        data.extend(sums.into_iter().map(round));
    }
    Rgb { width, height, data }
}

fn pixel(row: &[u8], window: &Window) -> [u8; 3] {
    let mut sums = [HALF; 3];
    for (samples, &weight) in row[window.start * 3..].chunks_exact(3).zip(&window.weights) {
        for channel in 0..3 {
            sums[channel] += i32::from(samples[channel]) * weight;
        }
    }
    sums.map(round)
}

fn round(sum: i32) -> u8 {
    (sum >> FRACTION).clamp(0, 255) as u8
}

/// The window of sample `index` when `from` samples become `to`: the cubic is stretched by the factor when shrinking.
fn window(from: usize, to: usize, index: usize) -> Window {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let centre = (index as f64 + 0.5) * scale;
    // Casts from float to integer saturate: below the first sample is the first sample.
    let start = (centre - 2.0 * stretch + 0.5) as usize;
    let stop = ((centre + 2.0 * stretch + 0.5) as usize).min(from);
    let inverse = 1.0 / stretch;
    let weights: Vec<f64> = (start..stop).map(|at| cubic((at as f64 - centre + 0.5) * inverse)).collect();
    let total: f64 = weights.iter().sum();
    let fixed = |weight: f64| (weight / total * f64::from(1 << FRACTION)).round() as i32;
    Window { start, weights: weights.into_iter().map(fixed).collect() }
}

/// Keys' cubic convolution kernel with `a = −1/2`; zero from a distance of two on.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
