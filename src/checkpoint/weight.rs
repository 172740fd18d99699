//! One weight of a network, read from its file at first use.

use std::sync::{Arc, OnceLock};

use tch::{Device, Kind, Tensor};

use super::source::Source;
use crate::Result;
use crate::kernels::fast_paths;
use crate::runtime::{check_interrupt, fail, from_tch};

/// A weight that a layer may hold in another layout than the file's. On the CPU, a lazy weight takes no memory until
/// its plain layout is used.
pub struct Weight {
    location: Location,
    device: Device,
    kind: Kind,
    /// The weight in the file's layout, in the type and on the device of the network.
    plain: OnceLock<Tensor>,
}

/// The location of a weight in its file, its shape and its stored type.
pub struct Location {
    pub file: Arc<Source>,
    pub start: u64,
    pub shape: Vec<i64>,
    pub kind: Kind,
}

impl Location {
    /// The weight as it is stored, on the CPU.
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
    /// The weight at a location. It is read now if it belongs on another device than the CPU or is not `lazy`.
    ///
    /// # Errors
    /// `Checkpoint` if it is read now and the file cannot be; `OutOfMemory` if the device has no room; `Interrupted`.
    pub fn new(location: Location, device: Device, kind: Kind, lazy: bool) -> Result<Self> {
        let plain = OnceLock::new();
        if device != Device::Cpu || !lazy {
            check_interrupt()?;
            // It is moved in the file's type, since the device casts faster.
            let moved = location.read()?.f_to_device(device).and_then(|tensor| tensor.f_to_kind(kind));
            let moved = moved.map_err(|why| from_tch(&why))?;
            let _ = plain.set(if device == Device::Cpu { moved } else { channels_last(moved) });
        }
        Ok(Weight { location, device, kind, plain })
    }

    /// The weight in the layout of the file and the type of the network.
    ///
    /// # Panics
    /// If the file cannot be read any more: with an error that [`crate::runtime::guarded`] returns.
    pub fn plain(&self) -> &Tensor {
        self.plain.get_or_init(|| self.read())
    }

    /// The weight in the layout of the file and the type of the network.
    ///
    /// # Errors
    /// `Checkpoint` if the file cannot be read any more.
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

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.location.shape.iter().product::<i64>() as usize
    }

    /// The device that the network computes on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Another layout, which `pack` makes from the plain one. The plain one is not kept in memory for that.
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

/// A convolution's weight in half precision in channels-last layout, which tensor cores need. The convolution's output
/// then has that layout too, and layers between convolutions keep it.
fn channels_last(weight: Tensor) -> Tensor {
    let half = matches!(weight.kind(), Kind::Half | Kind::BFloat16);
    if weight.dim() != 4 || !half || !fast_paths() {
        return weight;
    }
    weight.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}
