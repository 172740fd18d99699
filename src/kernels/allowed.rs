//! Where kernels of this crate may stand in for libtorch's.

use std::cell::Cell;

use tch::{Kind, Tensor};

use super::{fast_paths, shim};

thread_local! {
    static TO_REPEAT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with the kernels that a gradient is computed with, so that a repetition of it with a graph gives the very
/// same numbers.
pub fn to_repeat<T>(work: impl FnOnce() -> T) -> T {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            TO_REPEAT.set(self.0);
        }
    }
    let _back = Back(TO_REPEAT.replace(true));
    work()
}

/// Whether nothing is to be differentiated or repeated with a graph, so that layouts and kernels may be chosen.
pub fn free() -> bool {
    !TO_REPEAT.get() && !shim::records()
}

/// Whether kernels of this crate may run: where nothing is to be differentiated, and they are not switched off.
pub fn allowed() -> bool {
    free() && fast_paths()
}

/// Whether what is computed from `x` may be computed as suits a GPU's tensor cores.
pub fn on_cuda_in_half(x: &Tensor) -> bool {
    x.device().is_cuda() && matches!(x.kind(), Kind::Half | Kind::BFloat16) && allowed()
}
