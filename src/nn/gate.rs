use tch::Tensor;

use crate::kernels::cuda::programs;
use crate::kernels::{self, self_check};

/// GEGLU (Shazeer 2020): half of the wide layer `[…, 2d]` gates the other half, `[…, d]`.
pub fn geglu(wide: &Tensor) -> Tensor {
    let (device, kind) = (wide.device(), wide.kind());
    if kernels::allowed() && programs::takes(device, kind) {
        let compare = || {
            let numbers = self_check::numbers(&[3, 70, 34], kind, device, 0.3) * 2.0;
            Ok(vec![(made(programs::geglu(&numbers))?, plain(&numbers))])
        };
        if self_check::passed(("geglu", device, kind, vec![]), compare)
            && let Ok(gated) = programs::geglu(wide)
        {
            return gated;
        }
    }
    plain(wide)
}

fn plain(wide: &Tensor) -> Tensor {
    let halves = wide.chunk(2, -1);
    &halves[0] * halves[1].gelu("none")
}

/// The result of a kernel, with the core's error type.
pub(super) fn made<T>(by: Result<T, String>) -> crate::Result<T> {
    by.map_err(|why| crate::Error::Internal(anyhow::anyhow!("{why}")))
}
