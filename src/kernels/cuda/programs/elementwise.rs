//! Kernels that compute every number from a few others.

use tch::Tensor;

use super::{KernelArgument, Packs, Program, enough, in_packs, launch};

/// GEGLU: `[…, 2d]` to `[…, d]`.
///
/// # Errors
/// If there are too many numbers, or the kernel cannot be launched.
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

/// `a + b + bias`, or `b + bias` without `a`, of `a` and `b` `[B, C, h, w]` and `bias` `[C]`; the result is
/// channels-last.
///
/// # Errors
/// If there are too many numbers, or the kernel cannot be launched.
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

/// Nearest-neighbour interpolation of `x` `[B, C, h, w]` to `[B, C, 2h, 2w]`, channels-last.
///
/// # Errors
/// If the channels are not packs, there are too many numbers, or the kernel cannot be launched.
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
