use tch::{Device, Kind, Tensor};

use crate::kernels::{fast_paths, shim};

/// A copy of a CPU tensor on a device. To a CUDA device it is copied asynchronously through pinned memory, if
/// available.
pub fn upload(tensor: &Tensor, device: Device) -> Tensor {
    match device {
        Device::Cuda(index) if fast_paths() => shim::upload(tensor, index).unwrap_or_else(|_| tensor.to_device(device)),
        _ => tensor.to_device(device),
    }
}

/// A tensor that is requested now and read later, so that more work can be queued on its device in between.
pub enum PendingTensor {
    /// A tensor that is copied when it is read.
    Ready(Tensor),
    /// An asynchronous copy that was started.
    Sent(shim::PendingCopy),
}

impl PendingTensor {
    /// Starts to copy a tensor to the CPU, after the work that computes it.
    pub fn new(tensor: &Tensor) -> Self {
        let sent = if tensor.device().is_cuda() && fast_paths() { shim::send(&tensor.detach()).ok() } else { None };
        sent.map_or_else(|| PendingTensor::Ready(tensor.detach()), PendingTensor::Sent)
    }

    /// Waits for the numbers and returns them: float64, row-major.
    pub fn read(self) -> Vec<f64> {
        match self {
            PendingTensor::Ready(tensor) => to_vec64(&tensor),
            PendingTensor::Sent(copy) => to_vec64(&copy.receive()),
        }
    }
}

/// Copies a tensor of any device and float type into a float32 vector, row-major.
pub fn to_vec(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut data = vec![0f32; tensor.numel()];
    tensor.copy_data(&mut data, tensor.numel());
    data
}

/// Copies a tensor of any device and float type into a float64 vector, row-major.
pub fn to_vec64(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Double).contiguous();
    let mut data = vec![0f64; tensor.numel()];
    tensor.copy_data(&mut data, tensor.numel());
    data
}
