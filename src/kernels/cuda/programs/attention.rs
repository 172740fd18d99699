//! Kernels that pool attention maps.

use tch::{Device, Kind, Tensor};

use super::{Grid, KernelArgument, Program, launch};
use crate::config::MapKind;

/// The most keys of a row that a warp can hold.
const MOST_TOKENS: i64 = 512;
/// The keys in the tile of `attend`, as its source has them.
const TILE_TOKENS: i64 = 80;
/// The widest heads whose keys and values fit in shared memory.
const MOST_DEPTH: i64 = 128;

/// The number that the kernels' sources have for a kind of map.
fn number_of(map: MapKind) -> i32 {
    match map {
        MapKind::Logits => 0,
        MapKind::Probs | MapKind::TextProbs => 1,
        MapKind::Cosine => 2,
    }
}

/// How the rows of a map are pooled.
#[derive(Debug, Clone, Copy)]
pub struct PoolingArguments<'a> {
    /// The kind of map: logits, probabilities or cosines.
    pub map: MapKind,
    /// The factor of products of queries and keys.
    pub scale: f64,
    /// The sharpness `λ` of Eq. 4.
    pub lambda: f64,
    /// int64 `[B, 2]`: for each sample, the first of its pooled columns and their number; all columns if `None`.
    pub ranges: Option<&'a Tensor>,
}

/// Statistics of rows `[B, H, n]`, or their sums over parts of the rows `[B, H, parts]`.
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

/// Pools the rows of a map that is given by the products `[B, H, n, m]`, float32, of queries and keys: the statistics
/// of every row `[B, H, n]`, and, if a type for them is given, the probabilities `[B, H, n, m]`. `lengths` are needed
/// for cosines: the inverse lengths of the queries `[B, H, n]` and of the keys `[B, H, m]`, float32. With `sums`
/// `[B, H, n]`, float32, the map is `exp(scores − sums)`, and the kind of map must be logits.
///
/// # Errors
/// If there are more than 512 keys, or the kernel cannot be launched.
pub fn pool(
    products: &Tensor,
    how: &PoolingArguments,
    lengths: Option<[&Tensor; 2]>,
    sums: Option<&Tensor>,
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
    let sums = sums.map(Tensor::contiguous);
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
        KernelArgument::Optional(sums.as_ref()),
        KernelArgument::Long(rows),
        KernelArgument::Long(size[1] * size[2]),
        KernelArgument::Long(size[2]),
        KernelArgument::Int(tokens as i32),
        KernelArgument::Float(how.scale as f32),
        KernelArgument::Float(how.lambda as f32),
        KernelArgument::Int(i32::from(matches!(how.map, MapKind::Probs | MapKind::TextProbs))),
    ];
    let program = Program::Pool { values: (tokens as u32).div_ceil(32) };
    launch(program, "pool_rows", kind, products.device(), Grid { blocks, threads: 32 * warps as u32 }, &arguments)?;
    Ok((RowStatistics { lse, strength }, made))
}

/// Whether [`attend`] supports these queries, keys and values, `[B, H, …, d]` of one type.
pub fn attends(q: &Tensor, k: &Tensor, v: Option<&Tensor>) -> bool {
    let half = matches!(q.kind(), Kind::Half | Kind::BFloat16);
    let (tokens, depth) = (k.size()[2], q.size()[3]);
    // The kernel reads packs.
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

/// Attention of `q` `[B, H, n, d]` to `k` `[B, H, m, d]` in one pass that does not write the map: statistics summed
/// over parts of the rows, `[B, H, parts]`, and with `v` `[B, H, m, d]` the output `[B, H, n, d]`. The inputs must
/// satisfy [`attends`].
///
/// # Errors
/// If there are too many heads, or the kernel cannot be launched.
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
    // Blocks of many rows read keys and values less often, but there must be enough blocks for all multiprocessors.
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
