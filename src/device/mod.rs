//! Names of devices and data types, and transfers of tensors between devices.

mod fastest;
mod transfer;

use tch::{Cuda, Device, Kind};

pub use fastest::{faster, fastest};
pub use transfer::{PendingTensor, to_vec, to_vec64, upload};

use crate::{Error, Result};

/// The libtorch release that tch is made for; the two move in lockstep.
pub const TORCH_VERSION: &str = "2.11";

/// Reads `auto`, `cpu`, `cuda` or `cuda:N`; `auto` is the first CUDA device if there is one.
///
/// # Errors
/// `Device` if the name is unknown or the device does not exist.
pub fn parse_device(name: &str) -> Result<Device> {
    let cuda = |index: usize| {
        let count = if Cuda::is_available() { Cuda::device_count() as usize } else { 0 };
        if index < count {
            return Ok(Device::Cuda(index));
        }
        Err(Error::Device(format!(
            "device {name:?} was asked for, but libtorch sees {count} CUDA device(s); use device=\"cpu\" or install a \
             CUDA build of torch {TORCH_VERSION} and an NVIDIA driver"
        )))
    };
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" if Cuda::is_available() => Ok(Device::Cuda(0)),
        "auto" => Ok(Device::Cpu),
        "cuda" => cuda(0),
        _ => match name.strip_prefix("cuda:").and_then(|index| index.parse().ok()) {
            Some(index) => cuda(index),
            None => Err(Error::Device(format!(
                "unknown device {name:?}; expected \"auto\", \"cpu\", \"cuda\" or \"cuda:N\""
            ))),
        },
    }
}

/// Reads `auto`, `fastest`, `float32`, `float16` or `bfloat16`.
///
/// `auto` is float16 on CUDA and float32 on the CPU, so that scores do not depend on the processor; `fastest` is the
/// result of [`fastest`].
///
/// # Errors
/// `Device` if the name is unknown, or the device only emulates the type.
pub fn parse_dtype(name: &str, device: Device) -> Result<Kind> {
    match name {
        "auto" if device.is_cuda() => Ok(Kind::Half),
        "auto" | "float32" => Ok(Kind::Float),
        "fastest" => Ok(fastest(device)),
        "bfloat16" => Ok(Kind::BFloat16),
        "float16" if device == Device::Cpu => Err(Error::Device(
            "dtype \"float16\" on the CPU would be emulated; use dtype=\"float32\", or \"bfloat16\" to save memory"
                .into(),
        )),
        "float16" => Ok(Kind::Half),
        _ => Err(Error::Device(format!(
            "unknown dtype {name:?}; expected \"auto\", \"fastest\", \"float32\", \"float16\" or \"bfloat16\""
        ))),
    }
}

/// The name that users give a device.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".into(),
    }
}

/// The name that users give a data type.
pub fn dtype_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        _ => "float32",
    }
}
