//! The kernels and how they are started. Shapes and types are those of the comments in their sources.

use tch::{Device, Kind, Tensor};

use super::{Grid, Pass, launch};

/// A source file with what is defined for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// Rows of so many values a thread.
    Pool {
        values: u32,
    },
    Geglu,
    GroupNorm,
}

/// Rows of attention that a warp can hold.
const MOST_TOKENS: i64 = 512;
/// As the source has them.
const MOST_CHANNELS: i64 = 4096;
const MOST_GROUPS: i64 = 128;
/// Blocks that fill every device there is, several times over.
const MANY_BLOCKS: i64 = 4096;

/// The text that is compiled, for tensors of type `kind`.
pub fn source(program: Program, kind: Kind) -> String {
    let number = match kind {
        Kind::Half => 1,
        Kind::BFloat16 => 2,
        _ => 0,
    };
    let (defined, kernel) = match program {
        Program::Pool { values } => (format!("#define VALUES {values}\n"), include_str!("pool.cu")),
        Program::Geglu => (String::new(), include_str!("geglu.cu")),
        Program::GroupNorm => (String::new(), include_str!("group_norm.cu")),
    };
    let infinity = "#define INFINITY __int_as_float(0x7f800000)\n";
    [
        &format!("#define TYPE {number}\n"),
        infinity,
        &defined,
        include_str!("device.cuh"),
        include_str!("prelude.cuh"),
        kernel,
    ]
    .concat()
}

/// Of attention scores `[B, H, n, m]` float32: Eq. 4 and strength of every row, `[B, H, n]` float32, and the probabilities
/// in type `kind`, where they are wanted. `ranges` `[B, 2]` int64 are the tokens that count.
pub fn pool(
    scores: &Tensor,
    ranges: Option<&Tensor>,
    of_probabilities: bool,
    lambda: f64,
    probabilities: Option<Kind>,
) -> Result<(Tensor, Tensor, Option<Tensor>), String> {
    let size = scores.size();
    let (rows, tokens) = (size[..3].iter().product::<i64>(), size[3]);
    if tokens > MOST_TOKENS {
        return Err(format!("there are more than {MOST_TOKENS} tokens"));
    }
    let scores = scores.contiguous();
    let [lse, strength] = [(); 2].map(|()| Tensor::empty(&size[..3], (Kind::Float, scores.device())));
    let kind = probabilities.unwrap_or(Kind::Float);
    let made = probabilities.map(|kind| Tensor::empty(&size, (kind, scores.device())));
    let warps = 4;
    let blocks = (u32::try_from((rows + warps - 1) / warps).map_err(|why| why.to_string())?, 1);
    let arguments = [
        Pass::Tensor(&scores),
        Pass::Optional(made.as_ref()),
        Pass::Tensor(&lse),
        Pass::Tensor(&strength),
        Pass::Optional(ranges),
        Pass::Long(rows),
        Pass::Long(size[1] * size[2]),
        Pass::Int(tokens as i32),
        Pass::Float(lambda as f32),
        Pass::Int(i32::from(of_probabilities)),
    ];
    let program = Program::Pool { values: (tokens as u32).div_ceil(32) };
    launch(program, "pool_rows", kind, scores.device(), Grid { blocks, threads: 32 * warps as u32 }, &arguments)?;
    Ok((lse, strength, made))
}

/// GEGLU of `[…, 2d]`, `[…, d]`.
pub fn geglu(wide: &Tensor) -> Result<Tensor, String> {
    let wide = wide.contiguous();
    let mut size = wide.size();
    let width = size.pop().expect("there is a last axis") / 2;
    let rows = size.iter().product::<i64>();
    size.push(width);
    let narrow = Tensor::empty(&size, (wide.kind(), wide.device()));
    let blocks = (((rows * width + 255) / 256).clamp(1, MANY_BLOCKS) as u32, 1);
    let arguments = [Pass::Tensor(&wide), Pass::Tensor(&narrow), Pass::Long(rows), Pass::Long(width)];
    launch(Program::Geglu, "geglu", wide.kind(), wide.device(), Grid { blocks, threads: 256 }, &arguments)?;
    Ok(narrow)
}

/// What a normalisation over groups has.
#[derive(Debug, Clone, Copy)]
pub struct Groups<'a> {
    /// `[C]`
    pub weight: &'a Tensor,
    pub bias: &'a Tensor,
    pub groups: i64,
    pub eps: f64,
}

/// Normalisation over groups of `x` `[B, C, h, w]` plus `added` `[B, C]`, with SiLU behind it where that is wanted; what
/// comes back has its channels side by side in memory, as `x` is brought to have.
pub fn group_norm(x: &Tensor, added: Option<&Tensor>, how: &Groups, silu: bool) -> Result<Tensor, String> {
    let (samples, channels, height, width) = x.size4().map_err(|why| why.to_string())?;
    if channels > MOST_CHANNELS || how.groups > MOST_GROUPS || samples > 65_535 {
        return Err(format!("there are more than {MOST_CHANNELS} channels or {MOST_GROUPS} groups"));
    }
    let pixels = height * width;
    let x = x.permute([0, 2, 3, 1]).contiguous();
    let added = added.map(Tensor::contiguous);
    let (kind, device) = (x.kind(), x.device());
    let parts = parts(samples, pixels, channels);
    let partial = Tensor::empty([samples, parts, how.groups, 2], (Kind::Float, device));
    let y = x.empty_like();
    let grid = Grid { blocks: (parts as u32, samples as u32), threads: threads(channels) };
    let sizes = || [Pass::Long(pixels), Pass::Int(channels as i32), Pass::Int(how.groups as i32)];
    let [a, b, c] = sizes();
    let sums = [Pass::Tensor(&x), Pass::Optional(added.as_ref()), Pass::Tensor(&partial), a, b, c];
    launch(Program::GroupNorm, "group_sums", kind, device, grid, &sums)?;
    let [a, b, c] = sizes();
    let apply = [
        Pass::Tensor(&x),
        Pass::Optional(added.as_ref()),
        Pass::Tensor(&partial),
        Pass::Tensor(how.weight),
        Pass::Tensor(how.bias),
        Pass::Tensor(&y),
        a,
        b,
        c,
        Pass::Float(how.eps as f32),
        Pass::Int(i32::from(silu)),
    ];
    launch(Program::GroupNorm, "group_apply", kind, device, grid, &apply)?;
    Ok(y.permute([0, 3, 1, 2]))
}

/// Parts that a sample's pixels are cut into: enough for all multiprocessors, and some thousand numbers in each.
fn parts(samples: i64, pixels: i64, channels: i64) -> i64 {
    let worth = (pixels * channels / 8192).clamp(1, 64);
    worth.min((1024 / samples).max(1)).min(pixels)
}

/// Threads of a block that leave the fewest idle.
fn threads(channels: i64) -> u32 {
    let idle = |threads: &i64| {
        if channels < *threads { threads % channels } else { (threads - channels % threads) % threads }
    };
    (8..=20).map(|warps| 32 * warps).min_by_key(idle).unwrap_or(256) as u32
}

/// Whether a device has the kernels' types.
pub fn takes(device: Device, kind: Kind) -> bool {
    device.is_cuda() && matches!(kind, Kind::Float | Kind::Half | Kind::BFloat16)
}
