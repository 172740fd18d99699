//! When kernels of this crate may replace libtorch's.

use std::cell::Cell;

use tch::{Kind, Tensor};

use super::{fast_paths, shim};

thread_local! {
    static TO_REPEAT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with the kernels that are used when gradients are computed, so that repeating it with a graph gives
/// identical numbers.
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

/// Whether layouts and kernels may be chosen freely, because nothing is differentiated or repeated with a graph.
pub fn free() -> bool {
    !TO_REPEAT.get() && !shim::records()
}

/// Whether kernels of this crate may run: nothing is differentiated, and they are not switched off ([`fast_paths`]).
pub fn allowed() -> bool {
    free() && fast_paths()
}

/// Whether kernels for tensor cores may compute with `x`: it is in half precision on CUDA, and kernels are [`allowed`].
pub fn on_cuda_in_half(x: &Tensor) -> bool {
    x.device().is_cuda() && matches!(x.kind(), Kind::Half | Kind::BFloat16) && allowed()
}
