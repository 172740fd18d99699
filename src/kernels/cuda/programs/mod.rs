//! The kernels and how they are launched. Shapes and types are those in the comments of their sources.
//!
//! A pack is 16 adjacent bytes, which a thread reads or writes at once. All functions return an error, and launch
//! nothing, if there is no NVRTC or driver, or a size is not supported.

mod attention;
mod elementwise;
mod norm;

use tch::{Device, Kind, Tensor};

pub use attention::{PoolingArguments, RowStatistics, attend, attends, pool};
pub use elementwise::{add, geglu, upsample};
pub use norm::{Groups, group_norm, layer_norm, packs_rows};

use super::{Grid, KernelArgument, launch};

/// A source file, with the constants that it is compiled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// [`pool`].
    Pool {
        /// Values of a row that each thread holds.
        values: u32,
    },
    /// [`geglu`].
    Geglu,
    /// [`group_norm`].
    GroupNorm,
    /// [`add`].
    Add,
    /// [`upsample`].
    Upsample,
    /// [`layer_norm`].
    LayerNorm {
        /// Packs of a row that each thread holds.
        packs: u32,
    },
    /// [`attend`].
    Attend {
        /// Channels of a head, rounded up to a multiple of 16.
        depth: u32,
    },
}

/// More blocks than any device runs at a time.
const MANY_BLOCKS: i64 = 4096;

/// The source text of a program, for tensors of type `kind`.
pub fn source(program: Program, kind: Kind) -> String {
    let number = match kind {
        Kind::Half => 1,
        Kind::BFloat16 => 2,
        _ => 0,
    };
    let (defined, kernel) = match program {
        Program::Pool { values } => (format!("#define VALUES {values}\n"), include_str!("../pool.cu")),
        Program::Geglu => (String::new(), include_str!("../geglu.cu")),
        Program::GroupNorm => (String::new(), include_str!("../group_norm.cu")),
        Program::Add => (String::new(), include_str!("../add.cu")),
        Program::Upsample => (String::new(), include_str!("../upsample.cu")),
        Program::LayerNorm { packs } => (format!("#define PACKS {packs}\n"), include_str!("../layer_norm.cu")),
        Program::Attend { depth } => (format!("#define DEPTH {depth}\n"), include_str!("../attend.cu")),
    };
    let infinity = "#define INFINITY __int_as_float(0x7f800000)\n";
    [
        &format!("#define TYPE {number}\n"),
        infinity,
        &defined,
        include_str!("../device.cuh"),
        include_str!("../prelude.cuh"),
        kernel,
    ]
    .concat()
}

/// Whether a kernel reads numbers one by one or in packs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packs {
    One,
    Many,
}

impl Packs {
    /// Numbers of this type that a thread reads at once, as the source has them.
    fn width(self, kind: Kind) -> i64 {
        match (self, kind) {
            (Packs::One, _) => 1,
            (Packs::Many, Kind::Float) => 4,
            (Packs::Many, _) => 8,
        }
    }

    fn name(self, one: &'static str, many: &'static str) -> &'static str {
        if self == Packs::One { one } else { many }
    }
}

/// [`Packs::Many`] if rows of `numbers` adjacent numbers of these contiguous tensors consist of aligned packs.
fn in_packs<'a>(numbers: i64, of: impl IntoIterator<Item = &'a Tensor>) -> Packs {
    let aligned = |x: &Tensor| numbers % Packs::Many.width(x.kind()) == 0 && (x.data_ptr() as usize).is_multiple_of(16);
    if of.into_iter().all(aligned) { Packs::Many } else { Packs::One }
}

/// A grid for so many work items; with very many, a thread processes several.
fn enough(threads: i64) -> Result<Grid, String> {
    // The kernels count in 32 bits, which must not overflow.
    if threads > i64::from(u32::MAX / 2) {
        return Err("there are more numbers than the kernel counts".into());
    }
    Ok(Grid { blocks: (((threads + 255) / 256).clamp(1, MANY_BLOCKS) as u32, 1), threads: 256 })
}

/// Whether the kernels support a device and a data type.
pub fn takes(device: Device, kind: Kind) -> bool {
    device.is_cuda() && matches!(kind, Kind::Float | Kind::Half | Kind::BFloat16)
}
