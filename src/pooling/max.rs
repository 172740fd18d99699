//! Pooling by maxima of rows or columns.

use tch::{Kind, Tensor};

/// Table 3, row-wise: the mean over image tokens `i` of `max_j A_ij`.
pub fn pool_rows(map: &Tensor) -> Tensor {
    map.amax(-1, false).mean_dim(-1, false, Kind::Double)
}

/// Table 3, column-wise: the mean over text tokens `j` of `max_i A_ij`.
pub fn pool_columns(map: &Tensor) -> Tensor {
    map.amax(-2, false).mean_dim(-1, false, Kind::Double)
}

/// `1/n` where `A_ij` is the largest of its row, divided among equal entries.
pub fn gradient_rows(map: &Tensor) -> Tensor {
    largest(map, -1) / map.size()[map.dim() - 2] as f64
}

/// `1/m` where `A_ij` is the largest of its column, divided among equal entries.
pub fn gradient_columns(map: &Tensor) -> Tensor {
    largest(map, -2) / map.size()[map.dim() - 1] as f64
}

fn largest(map: &Tensor, axis: i64) -> Tensor {
    let is_largest = map.eq_tensor(&map.amax(axis, true)).to_kind(map.kind());
    &is_largest / is_largest.sum_dim_intlist(axis, true, None)
}
