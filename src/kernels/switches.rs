use std::sync::OnceLock;

/// This variable of the environment, set to `0`, has everything computed by libtorch's own operators and in its own
/// layouts.
pub const SWITCH: &str = "DISCFFUSION_FUSED";

/// Whether kernels of this crate and layouts of its choice may be used.
pub fn fast_paths() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var(SWITCH).map_or(true, |value| value != "0"))
}

/// This variable of the environment, set to `1`, has small evaluations on CUDA recorded as graphs when they come again.
pub const GRAPHS: &str = "DISCFFUSION_GRAPHS";

/// Whether evaluations may be recorded: not unless it is asked for.
pub fn records_graphs() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var(GRAPHS).is_ok_and(|value| value == "1"))
}
