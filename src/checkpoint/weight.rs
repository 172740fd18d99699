//! One weight of a network, read from its file when it is needed.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use memmap2::{Mmap, UncheckedAdvice};
use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::torch::fast_paths;

/// A weight that may be held in another layout than the file's. As long as nobody asks for the plain one, or the file
/// has it in the type that is computed in, it takes no memory of its own on the CPU.
pub struct Weight {
    /// In the type and on the device of the network, or as the file has it.
    stored: Tensor,
    pages: Pages,
    kind: Kind,
    plain: OnceLock<Tensor>,
}

/// Where in a mapped file a weight lies.
pub struct Pages {
    file: Arc<Mmap>,
    bytes: Range<usize>,
}

impl Pages {
    pub fn new(file: &Arc<Mmap>, bytes: Range<usize>) -> Self {
        Pages { file: Arc::clone(file), bytes }
    }

    /// Lets go of the memory that reading took; it is read again when it is needed again.
    fn forget(&self) {
        // SAFETY: the mapping is of a file and read-only, so nothing is lost.
        let told =
            unsafe { self.file.unchecked_advise_range(UncheckedAdvice::DontNeed, self.bytes.start, self.bytes.len()) };
        // It is only advice; without it there is less memory for others.
        drop(told);
    }
}

impl Weight {
    /// `stored` is the tensor as the file has it, over `pages` or a copy of them.
    pub fn new(stored: Tensor, pages: Pages, device: Device, kind: Kind) -> Result<Self> {
        let stored = if device == Device::Cpu {
            stored
        } else {
            // In the file's type: the device casts faster, and no second copy is made here.
            let moved = stored.f_to_device(device).and_then(|tensor| tensor.f_to_kind(kind));
            pages.forget();
            channels_last(moved.map_err(|why| crate::torch::from_tch(&why))?)
        };
        Ok(Weight { stored, pages, kind, plain: OnceLock::new() })
    }

    /// In the layout of the file and the type that the network computes in.
    pub fn plain(&self) -> &Tensor {
        self.plain.get_or_init(|| self.stored.to_kind(self.kind))
    }

    /// The type that the network computes in.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn numel(&self) -> usize {
        self.stored.numel()
    }

    pub fn device(&self) -> Device {
        self.stored.device()
    }

    /// Another layout of it, made by `pack` of the plain one; the file's memory is let go.
    pub fn packed(&self, pack: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        let packed = match self.plain.get() {
            Some(plain) => pack(plain),
            None => pack(&self.stored.to_kind(self.kind)),
        };
        self.pages.forget();
        packed
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
