//! CUDA kernels of this crate: source text that is compiled by NVRTC and launched through the driver. Both libraries
//! are opened at first use; nothing of CUDA is linked, and nothing here is called without a device.

mod driver;
mod library;
pub mod nvrtc;
pub mod programs;

use std::collections::HashMap;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use self::driver::{Argument, Driver, Module};
use self::programs::Program;
use super::shim;
use crate::runtime::Lock;

/// The grid of a kernel launch.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    /// Number of blocks along the first and the second axis.
    pub blocks: (u32, u32),
    /// Number of threads of a block.
    pub threads: u32,
}

/// An argument of a kernel, as its source declares it.
pub enum KernelArgument<'a> {
    /// A pointer to a tensor's numbers.
    Tensor(&'a Tensor),
    /// A pointer that may be null.
    Optional(Option<&'a Tensor>),
    /// A 64-bit integer.
    Long(i64),
    /// A 32-bit integer.
    Int(i32),
    /// A 32-bit unsigned integer; the value must fit.
    Count(i64),
    /// A 32-bit floating-point number.
    Float(f32),
}

type Key = (Program, Kind, usize);

/// Launches `function` of `program` for tensors of type `kind`, on libtorch's current stream. The tensors must be
/// contiguous, on one CUDA device, and of the types that the source declares.
///
/// # Errors
/// The message of NVRTC or the driver, in one line; nothing is launched then.
pub fn launch(
    program: Program,
    function: &str,
    kind: Kind,
    device: Device,
    grid: Grid,
    arguments: &[KernelArgument],
) -> Result<(), String> {
    let Device::Cuda(index) = device else {
        return Err("there are kernels for CUDA devices alone".into());
    };
    let stream = shim::cuda_stream(index).ok_or("libtorch names no CUDA stream")?;
    let arguments = arguments.iter().map(|argument| match argument {
        KernelArgument::Tensor(tensor) | KernelArgument::Optional(Some(tensor)) => {
            Argument::Pointer(tensor.data_ptr() as u64)
        }
        KernelArgument::Optional(None) => Argument::Pointer(0),
        KernelArgument::Long(value) => Argument::Long(*value),
        KernelArgument::Int(value) => Argument::Int(*value),
        // The kernel reads the same 32 bits as unsigned; callers stay below 2³².
        KernelArgument::Count(value) => Argument::Int(*value as u32 as i32),
        KernelArgument::Float(value) => Argument::Float(*value),
    });
    loaded((program, kind, index))?.launch(function, grid, stream, arguments.collect())
}

/// A program on its device, or the reason why it cannot be loaded.
type Loaded = Result<Arc<Module>, String>;

/// The program on its device. It is compiled once, in about 0.1 s; a failure is not retried.
fn loaded(key: Key) -> Loaded {
    static LOADED: Lock<Option<HashMap<Key, Loaded>>> = Lock::new(None);
    let mut loaded = LOADED.hold();
    let make = || {
        let (program, kind, index) = key;
        let driver = Driver::open()?;
        let device = driver.device(index)?;
        let binary = nvrtc::compile(&programs::source(program, kind), &nvrtc::architecture(device.capability))?;
        device.load(&binary).map(Arc::new)
    };
    loaded.get_or_insert_default().entry(key).or_insert_with(make).clone()
}
