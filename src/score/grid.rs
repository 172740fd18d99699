//! Values at image tokens become grids, and grids of layers of different resolution are brought to one size.

use tch::{Kind, Tensor};

/// The side of a square grid of `n` image tokens.
pub fn side(n: i64) -> i64 {
    (n as f64).sqrt().round() as i64
}

/// Values at image tokens `[…, n, k]` as square grids `[…, k, s, s]` with `s² = n`.
pub fn as_grids(x: &Tensor) -> Tensor {
    let mut size = x.size();
    let (k, n) = (size.pop().expect("two axes at least"), size.pop().expect("two axes at least"));
    size.extend([k, side(n), side(n)]);
    x.transpose(-1, -2).reshape(size.as_slice())
}

/// Grids `[b, k, s, s]` resampled to `[b, k, to, to]` by linear interpolation between cell centres.
pub fn smooth(x: &Tensor, to: i64) -> Tensor {
    if x.size()[3] == to { x.shallow_clone() } else { x.upsample_bilinear2d([to, to], false, None, None) }
}

/// Grids `[k, s, s]` on a finer grid `[k, to, to]`: each cell's amount is spread evenly over its area, so that sums are
/// preserved.
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
