use tch::Tensor;

use super::gate::made;
use crate::kernels::cuda::programs;
use crate::kernels::{self, self_check};

/// `x` `[B, C, h, w]` resized to `[B, C, height, width]` by nearest-neighbour interpolation.
pub fn upsample(x: &Tensor, [height, width]: [i64; 2]) -> Tensor {
    let plain = |x: &Tensor, size: [i64; 2]| x.upsample_nearest2d(size, None, None);
    let size = x.size();
    // libtorch's own kernel for the channels-last layout reaches a tenth of the memory bandwidth.
    if kernels::on_cuda_in_half(x) && size[1] % 8 == 0 && [2 * size[2], 2 * size[3]] == [height, width] {
        let (device, kind) = (x.device(), x.kind());
        let compare = || {
            let numbers = self_check::numbers(&[2, 16, 5, 3], kind, device, 0.4);
            Ok(vec![(made(programs::upsample(&numbers))?, plain(&numbers, [10, 6]))])
        };
        if self_check::passed(("upsample", device, kind, vec![]), compare)
            && let Ok(y) = programs::upsample(x)
        {
            return y;
        }
    }
    plain(x, [height, width])
}
