//! Kernels that normalise.

use tch::{Kind, Tensor};

use super::{Grid, KernelArgument, Packs, Program, in_packs, launch};

/// The most channels and groups of a group norm, as its source has them.
const MOST_CHANNELS: i64 = 4096;
const MOST_GROUPS: i64 = 128;

/// The most packs of a row that a thread of `layer_norm` holds.
const MOST_PACKS: i64 = 8;

/// Whether [`layer_norm`] supports rows of this width.
pub fn packs_rows(width: i64, kind: Kind) -> bool {
    let pack = Packs::Many.width(kind);
    width % pack == 0 && width <= pack * 32 * MOST_PACKS
}

/// The sum `a + b` `[…, width]`, if there is `b`, and the normalisation of the sum (or of `a`) over the last axis, with
/// weight and bias `[width]` and `ε`.
///
/// # Errors
/// If rows are too long or not packs, or the kernel cannot be launched.
pub fn layer_norm(
    a: &Tensor,
    b: Option<&Tensor>,
    (weight, bias, eps): (&Tensor, &Tensor, f64),
) -> Result<(Option<Tensor>, Tensor), String> {
    let width = weight.size()[0];
    let (a, b) = (a.contiguous(), b.map(Tensor::contiguous));
    let all = [Some(&a), b.as_ref(), Some(weight), Some(bias)];
    if !packs_rows(width, a.kind()) || in_packs(width, all.into_iter().flatten()) == Packs::One {
        return Err("its rows are not in packs, or too long for a warp".into());
    }
    let packs = (width / Packs::Many.width(a.kind()) + 31) / 32;
    let rows = a.numel() as i64 / width;
    let (sum, y) = (b.as_ref().map(|_| a.empty_like()), a.empty_like());
    let warps = 4;
    let arguments = [
        KernelArgument::Tensor(&a),
        KernelArgument::Optional(b.as_ref()),
        KernelArgument::Optional(sum.as_ref()),
        KernelArgument::Tensor(weight),
        KernelArgument::Tensor(bias),
        KernelArgument::Tensor(&y),
        KernelArgument::Count(rows),
        KernelArgument::Count(width),
        KernelArgument::Float(eps as f32),
    ];
    let blocks = (u32::try_from((rows + warps - 1) / warps).map_err(|why| why.to_string())?, 1);
    let grid = Grid { blocks, threads: 32 * warps as u32 };
    launch(Program::LayerNorm { packs: packs as u32 }, "layer_norm", a.kind(), a.device(), grid, &arguments)?;
    Ok((sum, y))
}

/// The parameters of a group norm.
#[derive(Debug, Clone, Copy)]
pub struct Groups<'a> {
    /// The weight `[C]`.
    pub weight: &'a Tensor,
    /// The bias `[C]`.
    pub bias: &'a Tensor,
    /// Number of groups.
    pub groups: i64,
    /// `ε`, which is added to variances.
    pub eps: f64,
}

/// Group norm of `x + added`, with `x` `[B, C, h, w]` and `added` `[B, C]`, followed by SiLU if `silu`; the result is
/// channels-last.
///
/// # Errors
/// If there are too many channels, groups or samples, or the kernel cannot be launched.
pub fn group_norm(x: &Tensor, added: Option<&Tensor>, how: &Groups, silu: bool) -> Result<Tensor, String> {
    let (samples, channels, height, width) = x.size4().map_err(|why| why.to_string())?;
    if channels > MOST_CHANNELS || how.groups > MOST_GROUPS || samples > 65_535 {
        return Err(format!("there are more than {MOST_CHANNELS} channels or {MOST_GROUPS} groups"));
    }
    let pixels = height * width;
    let x = x.permute([0, 2, 3, 1]).contiguous();
    let added = added.map(Tensor::contiguous);
    let (kind, device) = (x.kind(), x.device());
    let packs = in_packs(channels, [&x]);
    let parts = parts(samples, pixels, channels);
    let partial = Tensor::empty([samples, how.groups, parts, 2], (Kind::Float, device));
    let y = x.empty_like();
    let threads = threads(channels / packs.width(kind), MOST_CHANNELS / packs.width(kind));
    let grid = Grid { blocks: (parts as u32, samples as u32), threads };
    let sizes =
        || [KernelArgument::Long(pixels), KernelArgument::Int(channels as i32), KernelArgument::Int(how.groups as i32)];
    let [a, b, c] = sizes();
    let sums = [
        KernelArgument::Tensor(&x),
        KernelArgument::Optional(added.as_ref()),
        KernelArgument::Tensor(&partial),
        a,
        b,
        c,
    ];
    launch(Program::GroupNorm, packs.name("group_sums", "group_sums_packs"), kind, device, grid, &sums)?;
    let [a, b, c] = sizes();
    let apply = [
        KernelArgument::Tensor(&x),
        KernelArgument::Optional(added.as_ref()),
        KernelArgument::Tensor(&partial),
        KernelArgument::Tensor(how.weight),
        KernelArgument::Tensor(how.bias),
        KernelArgument::Tensor(&y),
        a,
        b,
        c,
        KernelArgument::Float(how.eps as f32),
        KernelArgument::Int(i32::from(silu)),
    ];
    launch(Program::GroupNorm, packs.name("group_apply", "group_apply_packs"), kind, device, grid, &apply)?;
    Ok(y.permute([0, 3, 1, 2]))
}

/// Number of parts into which a sample's pixels are divided: enough for all multiprocessors, but each with tens of
/// thousands of numbers, since a block first reads the parameters of every channel.
fn parts(samples: i64, pixels: i64, channels: i64) -> i64 {
    let worth = (pixels * channels / 32_768).clamp(1, 256);
    worth.min((1024 / samples).max(1)).min(pixels)
}

/// Number of threads of a block, at most `most`, with the fewest idle ones if a pixel has so many packs.
fn threads(packs: i64, most: i64) -> u32 {
    let idle = |threads: &i64| if packs < *threads { threads % packs } else { (threads - packs % threads) % threads };
    let counts = (8..=20).map(|warps| 32 * warps).filter(|&threads| threads <= most);
    counts.min_by_key(idle).unwrap_or(256) as u32
}
