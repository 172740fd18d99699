"""The CUDA kernels, compiled as C++ and run with emulated threads, against torch's own operators.

The sources are the very files that NVRTC compiles for a device. Every tensor lies between guards that are not numbers:
what reads beyond its end spoils the result, and what writes there is seen.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "src" / "kernels" / "cuda"
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
# Against results in float64: float32 leaves rounding of sums, the others one rounding of the result.
TOLERANCES = {torch.float32: 2e-6, torch.float16: 6e-4, torch.bfloat16: 5e-3}
GUARD = 64
# Of LogSumExp and of strengths.
SUMS = (torch.float64, torch.float32)
# Those of Eq. 4, to either end of what a configuration may say, and whether the attention goes on.
LAMBDAS = ((1.0, True), (1.0, False), (30.0, True), (30.0, False), (1e-6, False), (1e4, False))

Library = Callable[..., ctypes.CDLL]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Gives the kernels for a type, rows of pool_rows being of so many values a thread and heads of a width."""
    folder = tmp_path_factory.mktemp("kernels")
    made: dict[tuple[int, int, int], ctypes.CDLL] = {}

    def load(dtype: torch.dtype, values: int = 1, depth: int = 16) -> ctypes.CDLL:
        key = (TYPES[dtype], values, depth)
        if key not in made:
            path = folder / "kernels_{}_{}_{}.so".format(*key)
            defined = [f"-DTYPE={key[0]}", f"-DVALUES={values}", f"-DDEPTH={depth}", "-DPACKS=3"]
            # Numbers are read as packs, and pairs as integers.
            flags = ["-std=c++17", "-O1", "-fno-strict-aliasing", "-shared", "-fPIC", "-Wall", "-Werror"]
            line = [os.environ.get("CXX", "c++"), *flags, "-Wno-unknown-pragmas"]
            subprocess.run(
                [*line, *defined, f"-I{SOURCES}", str(HERE / "host.cpp"), "-o", str(path)], check=True
            )
            made[key] = ctypes.CDLL(str(path))
        return made[key]

    return load


class Guarded:
    """A tensor in memory between two stretches that hold no numbers."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values
        fill = float("nan") if values.is_floating_point() else -(2**60)
        self.memory = torch.full((values.numel() + 2 * GUARD,), fill, dtype=values.dtype)
        self.view.copy_(values)

    @property
    def view(self) -> torch.Tensor:
        return self.memory[GUARD:-GUARD].view(self.values.shape)

    @property
    def pointer(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.memory.data_ptr() + GUARD * self.memory.element_size())

    def check(self) -> None:
        for guard in (self.memory[:GUARD], self.memory[-GUARD:]):
            assert guard.isnan().all() if guard.is_floating_point() else (guard == -(2**60)).all()


def run(function: Callable[..., None], grid: tuple[int, int, int], *arguments: object) -> None:
    """Calls a kernel; floats are passed as C floats, integers as given by ctypes."""
    passed = [
        a.pointer if isinstance(a, Guarded) else ctypes.c_float(a) if isinstance(a, float) else a
        for a in arguments
    ]
    function(*map(ctypes.c_uint, grid), *passed)
    for argument in arguments:
        if isinstance(argument, Guarded):
            argument.check()


def off(ours: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, relative to the largest number."""
    assert ours.shape == expected.shape
    difference = (ours.double() - expected).abs().max() / expected.abs().max()
    return float(difference) if difference.isfinite() else float("inf")


def long(value: int) -> ctypes.c_int64:
    return ctypes.c_int64(value)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("samples", "heads", "rows", "tokens"), [(2, 2, 4, 77), (1, 1, 1, 65), (3, 1, 2, 96)]
)
def test_pooled_rows(
    library: Library, dtype: torch.dtype, samples: int, heads: int, rows: int, tokens: int
) -> None:
    check_pooled_rows(library(dtype, 3), dtype, samples, heads, rows, tokens)


@pytest.mark.parametrize(("values", "tokens"), [(1, 1), (1, 17), (1, 32), (16, 512), (16, 490)])
def test_pooled_rows_of_other_lengths(library: Library, values: int, tokens: int) -> None:
    check_pooled_rows(library(torch.float32, values), torch.float32, 2, 1, 5, tokens)


def check_pooled_rows(
    kernels: ctypes.CDLL, dtype: torch.dtype, samples: int, heads: int, rows: int, tokens: int
) -> None:
    torch.manual_seed(1)
    products = Guarded(torch.randn(samples, heads, rows, tokens) * 8)
    total = samples * heads * rows
    starts = [min(sample, tokens - 1) for sample in range(samples)]
    counts = [min(1 + 20 * sample, tokens - start) for sample, start in enumerate(starts)]
    own = Guarded(torch.tensor([*zip(starts, counts, strict=True)]))
    of_rows, of_columns = (
        Guarded(torch.rand(samples, heads, rows)),
        Guarded(torch.rand(samples, heads, tokens)),
    )
    exact = products.values.double() * 0.5
    softmax = exact.softmax(-1)
    scaled = exact * of_rows.values.double()[..., None] * of_columns.values.double()[:, :, None]
    # the log-sum-exp of these scores and of others
    sums = Guarded((exact.logsumexp(-1) + torch.rand(exact.shape[:-1])).float())
    part_of_softmax = (exact - sums.values.double()[..., None]).exp()
    for of, (lam, wanted), ranges in itertools.product((0, 1, 2, 3), LAMBDAS, (None, own)):
        if of >= 2 and wanted:
            continue  # a map of its own, beside which there are no probabilities
        lse, strength = (Guarded(torch.zeros(samples, heads, rows, dtype=d)) for d in SUMS)
        probabilities = Guarded(torch.zeros(products.values.shape, dtype=dtype))
        run(
            kernels.run_pool_rows, ((total + 3) // 4, 1, 128), products, probabilities if wanted else None, lse,
            strength, ranges, of_rows if of == 2 else None, of_columns if of == 2 else None,
            sums if of == 3 else None, long(total), long(heads * rows), long(rows), ctypes.c_int(tokens), 0.5, lam,
            ctypes.c_int(of == 1),
        )  # fmt: skip
        pooled = (exact, softmax, scaled, part_of_softmax)[of]
        for sample in range(samples):
            part = slice(None) if ranges is None else slice(starts[sample], starts[sample] + counts[sample])
            row = pooled[sample, ..., part]
            assert off(lse.view[sample], excess(row, lam)) < 2e-6
            if of == 1 and ranges is None:
                # All rows have one mean: what tells them apart is what lies above it, as little as lambda makes it.
                assert off(lse.view[sample] - 1 / tokens, excess(row, lam) - 1 / tokens) < 1e-4 or tokens == 1
            assert off(strength.view[sample], ((lam * row).softmax(-1) * row.abs()).sum(-1)) < strength_off(
                lam
            )
        if wanted:
            assert off(probabilities.view, softmax) < TOLERANCES[dtype]
        else:
            assert not probabilities.view.any()


def excess(row: torch.Tensor, lam: float) -> torch.Tensor:
    """1/λ log(1/m Σ exp(λx)) of rows [..., m] in float64."""
    top = row.amax(-1, keepdim=True)
    return (((row - top) * lam).expm1().mean(-1, keepdim=True).log1p() / lam + top).squeeze(-1)


def strength_off(lam: float) -> float:
    """How far rounding of scores in float32 may bring a softmax of λ times them."""
    return 1e-5 if lam <= 30 else 1e-2


HALVES = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    ("samples", "heads", "rows", "tokens", "depth", "of_block"),
    [
        (2, 2, 70, 77, 64, 64),  # Stable Diffusion 2's, with rows left over
        (1, 3, 64, 77, 40, 128),  # Stable Diffusion 1's first, narrower than its multiple of 16
        (2, 1, 9, 80, 80, 64),  # fewer rows than a warp takes, every token of the tile
        (1, 1, 130, 1, 16, 128),  # one token
        (1, 2, 16, 20, 128, 64),  # the widest
    ],
)
def test_attention_in_one_tile(
    library: Library,
    dtype: torch.dtype,
    samples: int,
    heads: int,
    rows: int,
    tokens: int,
    depth: int,
    of_block: int,
) -> None:
    torch.manual_seed(5)
    kernels = library(dtype, 1, (depth + 15) // 16 * 16)

    def of_heads(count: int, spread: float) -> tuple[Guarded, torch.Tensor, list[ctypes.c_int64]]:
        """As projections leave them, heads side by side; and [B, H, count, depth] in float64, and the strides."""
        kept = Guarded((torch.randn(samples, count, heads, depth) * spread).to(dtype))
        view = kept.view.transpose(1, 2)
        return kept, view.double(), [long(stride) for stride in view.stride()[:3]]

    (q, exact_q, q_strides), (k, exact_k, k_strides), (v, exact_v, v_strides) = (
        of_heads(rows, 1.5),
        of_heads(tokens, 1.5),
        of_heads(tokens, 1.0),
    )
    scale = depth**-0.5
    scores = exact_q @ exact_k.mT * scale
    unit = torch.nn.functional.normalize
    maps = (scores, scores.softmax(-1), unit(exact_q, dim=-1) @ unit(exact_k, dim=-1).mT)
    output = scores.softmax(-1) @ exact_v
    starts = [min(sample, tokens - 1) for sample in range(samples)]
    counts = [min(1 + 20 * sample, tokens - start) for sample, start in enumerate(starts)]
    own = Guarded(torch.tensor([*zip(starts, counts, strict=True)]))
    blocks = -(-rows // of_block)
    for of, (lam, wanted), ranges in itertools.product(range(3), LAMBDAS, (None, own)):
        lse, strength = (Guarded(torch.zeros(samples, heads, blocks, dtype=d)) for d in SUMS)
        made = Guarded(torch.zeros(samples, rows, heads, depth, dtype=dtype))
        numbers = (heads, rows, tokens, depth, of_block)
        run(
            kernels.run_attend, (blocks, samples * heads, 128), q, k, v if wanted else None, made if wanted else None,
            lse, strength, ranges, *q_strides, *k_strides, *v_strides, *map(ctypes.c_int, numbers), scale, lam,
            ctypes.c_int(of),
        )  # fmt: skip
        for sample in range(samples):
            part = slice(None) if ranges is None else slice(starts[sample], starts[sample] + counts[sample])
            row = maps[of][sample, ..., part]
            sums = (
                excess(row, lam).sum(-1),
                ((lam * row).softmax(-1) * row.abs()).sum(-1).sum(-1),
            )
            # Cosines add up to next to nothing.
            size = row.abs().mean(-1).sum(-1).max()
            assert (lse.view[sample].sum(-1) - sums[0]).abs().max() < 1e-5 * size
            if of == 1 and ranges is None and tokens > 1:
                mean = rows / tokens
                assert off(lse.view[sample].sum(-1) - mean, sums[0] - mean) < 1e-4
            assert off(strength.view[sample].sum(-1), sums[1]) < strength_off(lam)
        if wanted:
            # Probabilities are rounded too before they meet the values.
            assert off(made.view.transpose(1, 2), output) < 2 * TOLERANCES[dtype]
        else:
            assert not made.view.any()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("pixels", "channels", "grid"), [(5, 33, 1), (7, 320, 3), (1, 8, 1), (40, 17, 2)])
def test_sum_with_a_bias(library: Library, dtype: torch.dtype, pixels: int, channels: int, grid: int) -> None:
    torch.manual_seed(6)
    a, b = (Guarded(torch.randn(pixels, channels).to(dtype)) for _ in range(2))
    bias = Guarded(torch.randn(channels).to(dtype))
    kernels = library(dtype)
    for packs in (False, True) if channels % 8 == 0 else (False,):
        for first in (None, a):
            y = Guarded(torch.zeros(pixels, channels, dtype=dtype))
            counts = (ctypes.c_uint(pixels), ctypes.c_uint(channels))
            run(
                kernels.run_add_packs if packs else kernels.run_add,
                (grid, 1, 256),
                first,
                b,
                bias,
                y,
                *counts,
            )
            expected = b.values.double() + bias.values.double()
            assert (
                off(y.view, expected if first is None else expected + a.values.double()) < TOLERANCES[dtype]
            )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "width", "grid"), [(5, 33, 1), (1, 1, 1), (7, 320, 3), (40, 17, 2)])
def test_geglu(library: Library, dtype: torch.dtype, rows: int, width: int, grid: int) -> None:
    torch.manual_seed(2)
    wide = Guarded((torch.randn(rows, 2 * width) * 3).to(dtype))
    a, b = wide.values.double().chunk(2, -1)
    kernels = library(dtype)
    for packs in (False, True) if width % 8 == 0 else (False,):
        narrow = Guarded(torch.zeros(rows, width, dtype=dtype))
        counts = (ctypes.c_uint(rows), ctypes.c_uint(width))
        run(kernels.run_geglu_packs if packs else kernels.run_geglu, (grid, 1, 256), wide, narrow, *counts)
        # The gate is rounded before the product, as two operators would.
        assert off(narrow.view, a * torch.nn.functional.gelu(b)) < 2 * TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("samples", "pixels", "channels", "groups", "blocks", "threads"),
    [
        (2, 63, 64, 16, 4, 256),  # the pocket model's, several pixels side by side
        (1, 30, 320, 32, 3, 320),  # Stable Diffusion's
        (1, 5, 2560, 32, 5, 320),
        (1, 3, 4096, 32, 2, 512),  # all the room that there is
        (3, 7, 12, 3, 2, 256),  # threads and pixels that are left over
        (2, 1, 8, 8, 1, 256),  # one number a group
        (2, 10, 6, 1, 7, 256),  # blocks without pixels
    ],
)
def test_group_norm(
    library: Library,
    dtype: torch.dtype,
    samples: int,
    pixels: int,
    channels: int,
    groups: int,
    blocks: int,
    threads: int,
) -> None:
    torch.manual_seed(3)
    # Far from zero, where sums of squares would lose what is sought.
    x = Guarded((torch.randn(samples, pixels, channels) + 20).to(dtype))
    offsets = Guarded(torch.randn(samples, channels).to(dtype))
    weight, bias = (Guarded(torch.randn(channels).to(dtype)) for _ in range(2))
    kernels = library(dtype)
    for added, silu, packs in itertools.product((None, offsets), (0, 1), ("", "_packs")):
        if packs and channels % 8:
            continue
        partial = Guarded(torch.zeros(samples, groups, blocks, 2))
        y = Guarded(torch.zeros(samples, pixels, channels, dtype=dtype))
        grid = (blocks, samples, threads)
        sizes = (long(pixels), ctypes.c_int(channels), ctypes.c_int(groups))
        run(getattr(kernels, f"run_group_sums{packs}"), grid, x, added, partial, *sizes)
        apply = getattr(kernels, f"run_group_apply{packs}")
        run(apply, grid, x, added, partial, weight, bias, y, *sizes, 1e-5, ctypes.c_int(silu))
        summed = x.values.double()
        if added is not None:
            summed = summed + added.values.double()[:, None]
        expected = torch.nn.functional.group_norm(
            summed.mT, groups, weight.values.double(), bias.values.double(), 1e-5
        ).mT
        if silu:
            expected = torch.nn.functional.silu(expected)
        # Numbers near 20 leave float32 a twentieth of its digits less.
        assert off(y.view, expected) < max(TOLERANCES[dtype], 1e-5)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "width"), [(5, 8), (9, 320), (4, 256), (1, 384)])
def test_layer_norm(library: Library, dtype: torch.dtype, rows: int, width: int) -> None:
    torch.manual_seed(7)
    a, b = (Guarded((torch.randn(rows, width) + 5).to(dtype)) for _ in range(2))
    weight, bias = (Guarded(torch.randn(width).to(dtype)) for _ in range(2))
    for added in (None, b):
        summed, y = (Guarded(torch.zeros(rows, width, dtype=dtype)) for _ in range(2))
        counts = (ctypes.c_uint(rows), ctypes.c_uint(width))
        keep = summed if added is not None else None
        run(
            library(dtype).run_layer_norm,
            ((rows + 3) // 4, 1, 128),
            a,
            added,
            keep,
            weight,
            bias,
            y,
            *counts,
            1e-5,
        )
        # Of the sum as it was rounded.
        exact = a.values if added is None else a.values + added.values
        if keep is not None:
            assert torch.equal(keep.view, exact)
        expected = torch.nn.functional.layer_norm(
            exact.double(), [width], weight.values.double(), bias.values.double(), 1e-5
        )
        assert off(y.view, expected) < max(TOLERANCES[dtype], 5e-6)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("samples", "height", "width", "channels"), [(2, 3, 5, 16), (1, 1, 1, 8), (3, 2, 2, 40)]
)
def test_upsampling(
    library: Library, dtype: torch.dtype, samples: int, height: int, width: int, channels: int
) -> None:
    torch.manual_seed(8)
    x = Guarded(torch.randn(samples, height, width, channels).to(dtype))
    y = Guarded(torch.zeros(samples, 2 * height, 2 * width, channels, dtype=dtype))
    packs = channels // (4 if dtype == torch.float32 else 8)
    run(library(dtype).run_upsample, (2, 1, 256), x, y, *map(ctypes.c_uint, (samples, height, width, packs)))
    assert torch.equal(y.view, x.values.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_numbers_in_half_precision_are_torchs(library: Library) -> None:
    """GEGLU of a gate that is 1 after rounding passes every number through, so conversions are seen alone."""
    for dtype in (torch.float16, torch.bfloat16):
        bits = torch.arange(-(2**15), 2**15, dtype=torch.int16)
        every = bits.view(dtype)
        # GELU of 100 is 100, exactly in both types; the product is exact or rounds as torch's.
        wide = Guarded(torch.stack([every, torch.full_like(every, 100.0)], 1))
        narrow = Guarded(torch.zeros(len(every), 1, dtype=dtype))
        run(library(dtype).run_geglu, (4, 1, 256), wide, narrow, ctypes.c_uint(len(every)), ctypes.c_uint(1))
        expected = (every.float() * 100.0).to(dtype)
        ours = narrow.view[:, 0]
        same = (ours == expected) | (ours.isnan() & expected.isnan())
        assert same.all()
