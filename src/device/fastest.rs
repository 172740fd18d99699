//! The data type in which a machine runs a diffusion model fastest. It is measured: processors that support bfloat16
//! may still be slower with it than with float32.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use crate::runtime::caught;

/// bfloat16 is chosen if it takes at most this fraction of float32's time; otherwise its rounding is not worth it.
const WORTH: f64 = 0.8;

/// float16 on CUDA; on the CPU bfloat16 if it takes at most four fifths of float32's time, otherwise float32. It is
/// measured once per process, in a fraction of a second.
pub fn fastest(device: Device) -> Kind {
    static FOUND: OnceLock<Kind> = OnceLock::new();
    if device.is_cuda() { Kind::Half } else { *FOUND.get_or_init(|| faster(time)) }
}

/// The faster of float32 and bfloat16: `time` returns how long the same work takes in a type, or `None` if the type is
/// not supported.
pub fn faster(time: impl Fn(Kind) -> Option<Duration>) -> Kind {
    match (time(Kind::Float), time(Kind::BFloat16)) {
        (Some(single), Some(half)) if half.as_secs_f64() <= WORTH * single.as_secs_f64() => Kind::BFloat16,
        _ => Kind::Float,
    }
}

/// The minimum of three times of a convolution and a matrix product, of sizes that occur in Stable Diffusion: most of a
/// UNet's work is of these two kinds.
fn time(kind: Kind) -> Option<Duration> {
    let ones = |size: &[i64]| Tensor::ones(size, (kind, Device::Cpu));
    let (image, kernel) = (ones(&[1, 640, 16, 16]), ones(&[640, 640, 3, 3]));
    let (rows, weight) = (ones(&[256, 640]), ones(&[5120, 640]));
    let once = || {
        let start = Instant::now();
        let done = caught(|| {
            let convolved = image.conv2d(&kernel, None::<Tensor>, [1, 1], [1, 1], [1, 1], 1);
            Ok((convolved, rows.linear(&weight, None::<Tensor>)))
        });
        done.ok().map(|_| start.elapsed())
    };
    once()?; // oneDNN compiles its kernels
    (0..3).map(|_| once()).collect::<Option<Vec<_>>>()?.into_iter().min()
}
