//! Pooling by the mean.

use tch::{Kind, Tensor};

/// The mean over all entries.
pub fn pool(map: &Tensor) -> Tensor {
    map.mean_dim([-2, -1].as_slice(), false, Kind::Double)
}

/// `1/(n m)` everywhere.
pub fn gradient(map: &Tensor) -> Tensor {
    let size = map.size();
    let (n, m) = (size[size.len() - 2], size[size.len() - 1]);
    map.ones_like() / (n * m) as f64
}
