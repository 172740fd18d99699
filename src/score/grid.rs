//! Layers of different resolution on one grid.

use tch::{Kind, Tensor};

/// The side of a square grid of `n` places.
pub fn side(n: i64) -> i64 {
    (n as f64).sqrt().round() as i64
}

/// Values by place `[…, n, k]` as pictures `[…, k, s, s]`.
pub fn pictures(x: &Tensor) -> Tensor {
    let mut size = x.size();
    let (k, n) = (size.pop().expect("two axes at least"), size.pop().expect("two axes at least"));
    size.extend([k, side(n), side(n)]);
    x.transpose(-1, -2).reshape(size.as_slice())
}

/// Pictures `[b, k, s, s]` on a grid of `to × to`, by linear interpolation between the middles of places.
pub fn smooth(x: &Tensor, to: i64) -> Tensor {
    if x.size()[3] == to { x.shallow_clone() } else { x.upsample_bilinear2d([to, to], false, None, None) }
}

/// Pictures `[k, s, s]` on a finer grid: each place's amount is spread evenly over the area it covers, so sums stay.
pub fn spread(x: &Tensor, to: i64) -> Tensor {
    let from = x.size()[2];
    if from == to {
        return x.shallow_clone();
    }
    let edge = |i: i64, of: i64| i as f64 / of as f64;
    let overlap = |fine: i64, coarse: i64| {
        let shared = edge(fine + 1, to).min(edge(coarse + 1, from)) - edge(fine, to).max(edge(coarse, from));
        shared.max(0.0) * from as f64
    };
    let parts: Vec<f64> = (0..to).flat_map(|fine| (0..from).map(move |coarse| overlap(fine, coarse))).collect();
    let parts = Tensor::from_slice(&parts).view([to, from]).to_device(x.device()).to_kind(Kind::Double);
    parts.matmul(x).matmul(&parts.transpose(0, 1))
}
