//! The kernels and how they are started. Shapes and types are those of the comments in their sources.

use tch::{Device, Kind, Tensor};

use super::{Grid, KernelArgument, launch};
use crate::config::MapKind;

/// A source file with what is defined for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// Rows of so many values a thread.
    Pool {
        values: u32,
    },
    Geglu,
    GroupNorm,
    Add,
    Upsample,
    /// Rows of so many packs a thread.
    LayerNorm {
        packs: u32,
    },
    /// Heads of so many channels, a multiple of 16.
    Attend {
        depth: u32,
    },
}

/// Rows of attention that a warp can hold.
const MOST_TOKENS: i64 = 512;
/// Tokens in the one tile of `attend`, as its source has them, and the widest heads whose keys and values have room.
const TILE_TOKENS: i64 = 80;
const MOST_DEPTH: i64 = 128;
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
        Program::Add => (String::new(), include_str!("add.cu")),
        Program::Upsample => (String::new(), include_str!("upsample.cu")),
        Program::LayerNorm { packs } => (format!("#define PACKS {packs}\n"), include_str!("layer_norm.cu")),
        Program::Attend { depth } => (format!("#define DEPTH {depth}\n"), include_str!("attend.cu")),
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

/// The number that the kernels' sources have for a kind of map.
fn number_of(map: MapKind) -> i32 {
    match map {
        MapKind::Logits => 0,
        MapKind::Probs => 1,
        MapKind::Cosine => 2,
    }
}

/// How the rows of a map are pooled.
#[derive(Debug, Clone, Copy)]
pub struct PoolingArguments<'a> {
    pub map: MapKind,
    /// What products of queries and keys are multiplied with to become scores.
    pub scale: f64,
    pub lambda: f64,
    /// `[B, 2]` int64, first and number of the tokens that count; all if `None`.
    pub ranges: Option<&'a Tensor>,
}

/// What becomes of rows, `[B, H, …]` of rows or of sums over some of them.
pub struct RowStatistics {
    /// Eq. 4 without its constant `log(m)/λ`, float64.
    pub lse: Tensor,
    /// The strength of Eq. 7, float32.
    pub strength: Tensor,
}

impl RowStatistics {
    fn empty(shape: &[i64], device: Device) -> RowStatistics {
        let [lse, strength] = [Kind::Double, Kind::Float].map(|kind| Tensor::empty(shape, (kind, device)));
        RowStatistics { lse, strength }
    }
}

/// Of products `[B, H, n, m]` float32 of queries with keys: what becomes of every row, `[B, H, n]`, and the probabilities
/// in type `kind`, where they are wanted. Cosines need the lengths' inverses, of the queries `[B, H, n]` and of the keys
/// `[B, H, m]`, float32.
pub fn pool(
    products: &Tensor,
    how: &PoolingArguments,
    lengths: Option<[&Tensor; 2]>,
    probabilities: Option<Kind>,
) -> Result<(RowStatistics, Option<Tensor>), String> {
    let size = products.size();
    let (rows, tokens) = (size[..3].iter().product::<i64>(), size[3]);
    if tokens > MOST_TOKENS {
        return Err(format!("there are more than {MOST_TOKENS} tokens"));
    }
    let products = products.contiguous();
    let RowStatistics { lse, strength } = RowStatistics::empty(&size[..3], products.device());
    let kind = probabilities.unwrap_or(Kind::Float);
    let made = probabilities.map(|kind| Tensor::empty(&size, (kind, products.device())));
    let lengths = lengths.map(|lengths| lengths.map(Tensor::contiguous));
    let [of_rows, of_columns] = match &lengths {
        Some([of_rows, of_columns]) => [Some(of_rows), Some(of_columns)],
        None => [None; 2],
    };
    let warps = 4;
    let blocks = (u32::try_from((rows + warps - 1) / warps).map_err(|why| why.to_string())?, 1);
    let arguments = [
        KernelArgument::Tensor(&products),
        KernelArgument::Optional(made.as_ref()),
        KernelArgument::Tensor(&lse),
        KernelArgument::Tensor(&strength),
        KernelArgument::Optional(how.ranges),
        KernelArgument::Optional(of_rows),
        KernelArgument::Optional(of_columns),
        KernelArgument::Long(rows),
        KernelArgument::Long(size[1] * size[2]),
        KernelArgument::Long(size[2]),
        KernelArgument::Int(tokens as i32),
        KernelArgument::Float(how.scale as f32),
        KernelArgument::Float(how.lambda as f32),
        KernelArgument::Int(i32::from(how.map == MapKind::Probs)),
    ];
    let program = Program::Pool { values: (tokens as u32).div_ceil(32) };
    launch(program, "pool_rows", kind, products.device(), Grid { blocks, threads: 32 * warps as u32 }, &arguments)?;
    Ok((RowStatistics { lse, strength }, made))
}

/// Whether [`attend`] is made for these, `[B, H, …, d]` of one type.
pub fn attends(q: &Tensor, k: &Tensor, v: Option<&Tensor>) -> bool {
    let half = matches!(q.kind(), Kind::Half | Kind::BFloat16);
    let (tokens, depth) = (k.size()[2], q.size()[3]);
    // Keys and values are read 16 bytes at a time, wherever they lie.
    let packed = |x: &Tensor| {
        let strides = x.stride();
        let even = strides[..3].iter().all(|stride| stride % 8 == 0);
        strides[3] == 1 && even && (x.data_ptr() as usize).is_multiple_of(16)
    };
    half && depth % 8 == 0
        && depth <= MOST_DEPTH
        && tokens <= TILE_TOKENS
        && [Some(q), Some(k), v].into_iter().flatten().all(packed)
}

/// Attention of `q` `[B, H, n, d]` to `k` `[B, H, m, d]` in one pass that writes no map: sums over some rows each of what
/// becomes of them, `[B, H, parts]`, and with `v` `[B, H, m, d]` the output `[B, H, n, d]`. For what [`attends`] says.
pub fn attend(
    q: &Tensor,
    k: &Tensor,
    v: Option<&Tensor>,
    how: &PoolingArguments,
) -> Result<(RowStatistics, Option<Tensor>), String> {
    let (samples, heads, rows, depth) = q.size4().map_err(|why| why.to_string())?;
    let tokens = k.size()[2];
    let both = u32::try_from(samples * heads).ok().filter(|&both| both <= 65_535);
    let both = both.ok_or("there are more than 65,535 heads")?;
    // Many rows make the reading of keys and values worth it, but all multiprocessors should have some.
    let rows_of_block = [256, 128].into_iter().find(|of| (rows + of - 1) / of * i64::from(both) >= 1024).unwrap_or(64);
    let parts = (rows + rows_of_block - 1) / rows_of_block;
    let RowStatistics { lse, strength } = RowStatistics::empty(&[samples, heads, parts], q.device());
    let output = v.map(|_| Tensor::empty([samples, rows, heads, depth], (q.kind(), q.device())));
    let mut arguments = vec![
        KernelArgument::Tensor(q),
        KernelArgument::Tensor(k),
        KernelArgument::Optional(v),
        KernelArgument::Optional(output.as_ref()),
        KernelArgument::Tensor(&lse),
        KernelArgument::Tensor(&strength),
        KernelArgument::Optional(how.ranges),
    ];
    let strides = [q, k, v.unwrap_or(k)].map(|x| x.stride());
    arguments.extend(strides.iter().flat_map(|strides| &strides[..3]).map(|&stride| KernelArgument::Long(stride)));
    arguments.extend([heads, rows, tokens, depth, rows_of_block].map(|number| KernelArgument::Int(number as i32)));
    arguments.extend([
        KernelArgument::Float(how.scale as f32),
        KernelArgument::Float(how.lambda as f32),
        KernelArgument::Int(number_of(how.map)),
    ]);
    let grid = Grid { blocks: (parts as u32, both), threads: 128 };
    let program = Program::Attend { depth: (depth as u32).next_multiple_of(16) };
    launch(program, "attend", q.kind(), q.device(), grid, &arguments)?;
    Ok((RowStatistics { lse, strength }, output.map(|output| output.transpose(1, 2))))
}

/// GEGLU of `[…, 2d]`, `[…, d]`.
pub fn geglu(wide: &Tensor) -> Result<Tensor, String> {
    let wide = wide.contiguous();
    let mut size = wide.size();
    let width = size.pop().expect("there is a last axis") / 2;
    let rows = size.iter().product::<i64>();
    size.push(width);
    let narrow = Tensor::empty(&size, (wide.kind(), wide.device()));
    let packs = in_packs(width, [&wide]);
    let arguments = [
        KernelArgument::Tensor(&wide),
        KernelArgument::Tensor(&narrow),
        KernelArgument::Count(rows),
        KernelArgument::Count(width),
    ];
    let grid = enough(rows * width / packs.width(wide.kind()))?;
    launch(Program::Geglu, packs.name("geglu", "geglu_packs"), wide.kind(), wide.device(), grid, &arguments)?;
    Ok(narrow)
}

/// `a + b + bias`, or `b + bias` without `a`: `a` and `b` `[B, C, h, w]` with the channels side by side, as is what comes
/// back, and `bias` `[C]`.
pub fn add(a: Option<&Tensor>, b: &Tensor, bias: &Tensor) -> Result<Tensor, String> {
    let inside = |x: &Tensor| x.permute([0, 2, 3, 1]).contiguous();
    let (a, b) = (a.map(inside), inside(b));
    let channels = bias.size()[0];
    let pixels = b.numel() as i64 / channels;
    let y = b.empty_like();
    let packs = in_packs(channels, [Some(&b), a.as_ref(), Some(bias)].into_iter().flatten());
    let arguments = [
        KernelArgument::Optional(a.as_ref()),
        KernelArgument::Tensor(&b),
        KernelArgument::Tensor(bias),
        KernelArgument::Tensor(&y),
        KernelArgument::Count(pixels),
        KernelArgument::Count(channels),
    ];
    let grid = enough(pixels * channels / packs.width(b.kind()))?;
    launch(Program::Add, packs.name("add", "add_packs"), b.kind(), b.device(), grid, &arguments)?;
    Ok(y.permute([0, 3, 1, 2]))
}

/// Every pixel of `x` `[B, C, h, w]` four times, `[B, C, 2h, 2w]`, the channels side by side.
pub fn upsample(x: &Tensor) -> Result<Tensor, String> {
    let (samples, channels, height, width) = x.size4().map_err(|why| why.to_string())?;
    let x = x.permute([0, 2, 3, 1]).contiguous();
    if in_packs(channels, [&x]) == Packs::One {
        return Err("its channels are not in packs".into());
    }
    let packs = channels / Packs::Many.width(x.kind());
    let y = Tensor::empty([samples, 2 * height, 2 * width, channels], (x.kind(), x.device()));
    let mut arguments = vec![KernelArgument::Tensor(&x), KernelArgument::Tensor(&y)];
    arguments.extend([samples, height, width, packs].map(KernelArgument::Count));
    launch(Program::Upsample, "upsample", x.kind(), x.device(), enough(samples * height * width * packs)?, &arguments)?;
    Ok(y.permute([0, 3, 1, 2]))
}

/// Most packs of a row that a thread of `layer_norm` holds.
const MOST_PACKS: i64 = 8;

/// Whether [`layer_norm`] is made for rows of this width.
pub fn packs_rows(width: i64, kind: Kind) -> bool {
    let pack = Packs::Many.width(kind);
    width % pack == 0 && width <= pack * 32 * MOST_PACKS
}

/// The sum `a + b` `[…, width]`, or nothing where there is no `b`, and its normalisation over the last axis.
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

/// Whether numbers are taken one by one or 16 bytes at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packs {
    One,
    Many,
}

impl Packs {
    /// Numbers of this type that a thread takes at once, as the source has them.
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

/// Packs, where `numbers` side by side can be taken so of these tensors, which are contiguous.
fn in_packs<'a>(numbers: i64, of: impl IntoIterator<Item = &'a Tensor>) -> Packs {
    let aligned = |x: &Tensor| numbers % Packs::Many.width(x.kind()) == 0 && (x.data_ptr() as usize).is_multiple_of(16);
    if of.into_iter().all(aligned) { Packs::Many } else { Packs::One }
}

/// Blocks for so many threads, each of which may have to take a few turns.
fn enough(threads: i64) -> Result<Grid, String> {
    // The kernels count in 32 bits, and their steps must not go over.
    if threads > i64::from(u32::MAX / 2) {
        return Err("there are more numbers than the kernel counts".into());
    }
    Ok(Grid { blocks: (((threads + 255) / 256).clamp(1, MANY_BLOCKS) as u32, 1), threads: 256 })
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

/// Parts that a sample's pixels are cut into: enough for all multiprocessors, but each with tens of thousands of numbers,
/// since a block begins with what it has to know of every channel.
fn parts(samples: i64, pixels: i64, channels: i64) -> i64 {
    let worth = (pixels * channels / 32_768).clamp(1, 256);
    worth.min((1024 / samples).max(1)).min(pixels)
}

/// Threads of a block that leave the fewest idle where a pixel has so many packs; `most` is where room ends.
fn threads(packs: i64, most: i64) -> u32 {
    let idle = |threads: &i64| if packs < *threads { threads % packs } else { (threads - packs % threads) % threads };
    let counts = (8..=20).map(|warps| 32 * warps).filter(|&threads| threads <= most);
    counts.min_by_key(idle).unwrap_or(256) as u32
}

/// Whether a device has the kernels' types.
pub fn takes(device: Device, kind: Kind) -> bool {
    device.is_cuda() && matches!(kind, Kind::Float | Kind::Half | Kind::BFloat16)
}
