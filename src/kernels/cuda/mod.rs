//! Kernels of this crate for CUDA devices: source text, compiled by NVRTC and started through the driver, both of which
//! are opened when they are first needed. Nothing of CUDA is linked, and nothing here is reached without a device.

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

/// Blocks and threads that a kernel is started with.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    pub blocks: (u32, u32),
    pub threads: u32,
}

/// An argument of a kernel, as its source declares it.
pub enum KernelArgument<'a> {
    Tensor(&'a Tensor),
    /// A pointer that may be null.
    Optional(Option<&'a Tensor>),
    Long(i64),
    Int(i32),
    /// Of 32 bits, without a sign.
    Count(i64),
    Float(f32),
}

type Key = (Program, Kind, usize);

/// Starts `function` of `program` for tensors of type `kind`, on the stream that libtorch computes on. Tensors are
/// contiguous, on one CUDA device, and of the types that the source says.
///
/// # Errors
/// What NVRTC or the driver says, in one line; nothing was started then.
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
        // Of the same size, and the callers keep below 2³².
        KernelArgument::Count(value) => Argument::Int(*value as u32 as i32),
        KernelArgument::Float(value) => Argument::Float(*value),
    });
    loaded((program, kind, index))?.launch(function, grid, stream, arguments.collect())
}

/// A program on its device, or why there is none.
type Loaded = Result<Arc<Module>, String>;

/// The program on its device; compiled once, about 0.1 s, and never again if that failed.
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
