//! What this crate computes by means of its own, or by parts of libtorch that tch does not bind: C++ beside libtorch,
//! CUDA programs, recorded CUDA graphs; and where such kernels may stand in for libtorch's operators.

mod allowed;
pub mod cuda;
pub mod graph;
pub mod graph_cache;
pub mod self_check;
pub mod shim;
mod switches;

pub use allowed::{allowed, free, on_cuda_in_half, to_repeat};
pub use switches::{GRAPHS, SWITCH, fast_paths, records_graphs};
