//! Kernels of this crate, and parts of libtorch that tch does not bind: C++ that links libtorch, CUDA programs,
//! recorded CUDA graphs; and the rules for when such kernels may replace libtorch's operators.

mod allowed;
pub mod cuda;
pub mod graph;
pub mod graph_cache;
pub mod self_check;
pub mod shim;
mod switches;

pub use allowed::{allowed, free, on_cuda_in_half, to_repeat};
pub use switches::{GRAPHS, SWITCH, fast_paths, records_graphs};
