//! One weight of a network, read from its file when it is needed.

use std::sync::{Arc, OnceLock};

use tch::{Device, Kind, Tensor};

use super::source::Source;
use crate::Result;
use crate::kernels::fast_paths;
use crate::runtime::{check_interrupt, fail, from_tch};

/// A weight that may be held in another layout than the file's. As long as nobody asks for the plain one, it takes no
/// memory of its own on the CPU, unless all is read at once.
pub struct Weight {
    location: Location,
    device: Device,
    kind: Kind,
    /// In the type and on the device of the network.
    plain: OnceLock<Tensor>,
}

/// Where in a file a weight lies, and as what.
pub struct Location {
    pub file: Arc<Source>,
    pub start: u64,
    pub shape: Vec<i64>,
    pub kind: Kind,
}

impl Location {
    /// The weight as the file has it, on the CPU.
    fn read(&self) -> Result<Tensor> {
        let tensor = Tensor::f_empty(&self.shape, (self.kind, Device::Cpu)).map_err(|why| from_tch(&why))?;
        let bytes = tensor.numel() * self.kind.elt_size_in_bytes();
        if bytes > 0 {
            // SAFETY: a new contiguous tensor of so many bytes, which nobody else knows yet.
            let buffer = unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<u8>(), bytes) };
            self.file.read(self.start, buffer)?;
        }
        Ok(tensor)
    }
}

impl Weight {
    /// What a device computes with is read at once; so is everything if not `lazy`.
    pub fn new(location: Location, device: Device, kind: Kind, lazy: bool) -> Result<Self> {
        let plain = OnceLock::new();
        if device != Device::Cpu || !lazy {
            check_interrupt()?;
            // In the file's type: the device casts faster.
            let moved = location.read()?.f_to_device(device).and_then(|tensor| tensor.f_to_kind(kind));
            let moved = moved.map_err(|why| from_tch(&why))?;
            let _ = plain.set(if device == Device::Cpu { moved } else { channels_last(moved) });
        }
        Ok(Weight { location, device, kind, plain })
    }

    /// In the layout of the file and the type that the network computes in. A file that cannot be read any more ends
    /// the call that asked, as an error of libtorch's does.
    pub fn plain(&self) -> &Tensor {
        self.plain.get_or_init(|| self.read())
    }

    /// The same, where there is somebody to take the error.
    pub fn into_plain(self) -> Result<Tensor> {
        match self.plain.into_inner() {
            Some(plain) => Ok(plain),
            None => self.location.read()?.f_to_kind(self.kind).map_err(|why| from_tch(&why)),
        }
    }

    /// The type that the network computes in.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn numel(&self) -> usize {
        self.location.shape.iter().product::<i64>() as usize
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// Another layout of it, made by `pack` of the plain one, which is not kept for it.
    pub fn packed(&self, pack: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        match self.plain.get() {
            Some(plain) => pack(plain),
            None => pack(&self.read()),
        }
    }

    fn read(&self) -> Tensor {
        self.location.read().unwrap_or_else(|error| fail(error)).to_kind(self.kind)
    }
}

/// A convolution's weight in half precision with the channels side by side, as tensor cores want them. What a convolution
/// makes then has them so too, and layers between convolutions keep it.
fn channels_last(weight: Tensor) -> Tensor {
    let half = matches!(weight.kind(), Kind::Half | Kind::BFloat16);
    if weight.dim() != 4 || !half || !fast_paths() {
        return weight;
    }
    weight.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}
