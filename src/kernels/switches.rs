//! Environment variables that switch kernels on and off.

use std::sync::OnceLock;

/// An environment variable. If it is `0`, everything is computed by libtorch's operators and in their layouts.
pub const SWITCH: &str = "DISCFFUSION_FUSED";

/// Whether kernels and layouts of this crate may be used, by [`SWITCH`].
pub fn fast_paths() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var(SWITCH).map_or(true, |value| value != "0"))
}

/// An environment variable. If it is `1`, repeated small evaluations on CUDA are recorded as graphs.
pub const GRAPHS: &str = "DISCFFUSION_GRAPHS";

/// Whether evaluations are recorded as graphs, by [`GRAPHS`]; off by default.
pub fn records_graphs() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var(GRAPHS).is_ok_and(|value| value == "1"))
}
