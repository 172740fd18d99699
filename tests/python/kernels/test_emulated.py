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
SOURCES = HERE.parents[2] / "src" / "torch" / "cuda"
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
# Against results in float64: float32 leaves rounding of sums, the others one rounding of the result.
TOLERANCES = {torch.float32: 2e-6, torch.float16: 6e-4, torch.bfloat16: 5e-3}
GUARD = 64

Library = Callable[..., ctypes.CDLL]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Gives the kernels for a type, rows of pool_rows being of so many values a thread."""
    folder = tmp_path_factory.mktemp("kernels")
    made: dict[tuple[int, int], ctypes.CDLL] = {}

    def load(dtype: torch.dtype, values: int = 1) -> ctypes.CDLL:
        key = (TYPES[dtype], values)
        if key not in made:
            path = folder / f"kernels_{key[0]}_{key[1]}.so"
            defined = [f"-DTYPE={key[0]}", f"-DVALUES={key[1]}"]
            line = [os.environ.get("CXX", "c++"), "-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Werror"]
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
    scores = Guarded(torch.randn(samples, heads, rows, tokens) * 4)
    total = samples * heads * rows
    starts = [min(sample, tokens - 1) for sample in range(samples)]
    counts = [min(1 + 20 * sample, tokens - start) for sample, start in enumerate(starts)]
    own = Guarded(torch.tensor([*zip(starts, counts, strict=True)]))
    exact = scores.values.double()
    softmax = exact.softmax(-1)
    cases = itertools.product((0, 1), (1.0, 30.0), (None, own), (True, False))
    for of_probabilities, lam, ranges, wanted in cases:
        lse, strength = (Guarded(torch.zeros(samples, heads, rows)) for _ in range(2))
        probabilities = Guarded(torch.zeros(scores.values.shape, dtype=dtype))
        run(
            kernels.run_pool_rows, ((total + 3) // 4, 1, 128), scores, probabilities if wanted else None, lse, strength,
            ranges, long(total), long(heads * rows), ctypes.c_int(tokens), lam, ctypes.c_int(of_probabilities),
        )  # fmt: skip
        pooled = softmax if of_probabilities else exact
        for sample in range(samples):
            part = slice(None) if ranges is None else slice(starts[sample], starts[sample] + counts[sample])
            row = pooled[sample, ..., part]
            assert off(lse.view[sample], (lam * row).logsumexp(-1) / lam) < 2e-6
            assert off(strength.view[sample], ((lam * row).softmax(-1) * row.abs()).sum(-1)) < 1e-5
        if wanted:
            assert off(probabilities.view, softmax) < TOLERANCES[dtype]
        else:
            assert not probabilities.view.any()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "width", "grid"), [(5, 33, 1), (1, 1, 1), (7, 320, 3), (40, 17, 2)])
def test_geglu(library: Library, dtype: torch.dtype, rows: int, width: int, grid: int) -> None:
    torch.manual_seed(2)
    wide, narrow = (
        Guarded((torch.randn(rows, 2 * width) * 3).to(dtype)),
        Guarded(torch.zeros(rows, width, dtype=dtype)),
    )
    run(library(dtype).run_geglu, (grid, 1, 256), wide, narrow, long(rows), long(width))
    a, b = wide.values.double().chunk(2, -1)
    # The gate is rounded before the product, as two operators would.
    assert off(narrow.view, a * torch.nn.functional.gelu(b)) < 2 * TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("samples", "pixels", "channels", "groups", "blocks", "threads"),
    [
        (2, 63, 64, 16, 4, 256),  # the pocket model's, several pixels side by side
        (1, 30, 320, 32, 3, 320),  # Stable Diffusion's
        (1, 5, 2560, 32, 5, 640),
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
    for added in (None, offsets):
        for silu in (0, 1):
            partial = Guarded(torch.zeros(samples, blocks, groups, 2))
            y = Guarded(torch.zeros(samples, pixels, channels, dtype=dtype))
            grid = (blocks, samples, threads)
            sizes = (long(pixels), ctypes.c_int(channels), ctypes.c_int(groups))
            run(library(dtype).run_group_sums, grid, x, added, partial, *sizes)
            run(
                library(dtype).run_group_apply,
                grid,
                x,
                added,
                partial,
                weight,
                bias,
                y,
                *sizes,
                1e-5,
                ctypes.c_int(silu),
            )
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


def test_numbers_in_half_precision_are_torchs(library: Library) -> None:
    """GEGLU of a gate that is 1 after rounding passes every number through, so conversions are seen alone."""
    for dtype in (torch.float16, torch.bfloat16):
        bits = torch.arange(-(2**15), 2**15, dtype=torch.int16)
        every = bits.view(dtype)
        # GELU of 100 is 100, exactly in both types; the product is exact or rounds as torch's.
        wide = Guarded(torch.stack([every, torch.full_like(every, 100.0)], 1))
        narrow = Guarded(torch.zeros(len(every), 1, dtype=dtype))
        run(library(dtype).run_geglu, (4, 1, 256), wide, narrow, long(len(every)), long(1))
        expected = (every.float() * 100.0).to(dtype)
        ours = narrow.view[:, 0]
        same = (ours == expected) | (ours.isnan() & expected.isnan())
        assert same.all()
