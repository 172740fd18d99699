"""How much of what the machine can do the UNet reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from discffusion.bench.accounting import Accounting
from discffusion.bench.clock import Clock, Times, in_turns
from discffusion.bench.flops import Gemm, Network
from discffusion.bench.implementations import OURS
from discffusion.bench.implementations.ours import Ours
from discffusion.bench.implementations.parts import evaluation_settings, less_encoders, own_parts
from discffusion.bench.settings import BenchSettings

if TYPE_CHECKING:
    from discffusion.bench.implementations.diffusers_best import DiffusersBest

__all__ = ["Peak", "gemm_shapes", "measure_peak"]

# Matrix products are timed that together do this much of the network's work, the largest first; so many at most.
_SHARE, _MOST = 0.8, 8


@dataclass
class Peak:
    """Rates in operations per second.

    Attributes:
        gemms: by shape ``(rows, inner, columns)``, the times of one product.
        unet: by implementation, the times of one request's evaluations without any maps: encoders left out.
        flops: operations of those evaluations.
        rows: how many evaluations there are.
    """

    gemms: dict[Gemm, Times]
    unet: dict[str, Times]
    flops: int
    rows: int

    def gemm_rate(self, of: str = "median") -> float:
        """The best rate over the shapes."""
        rates = [2 * m * k * n / getattr(times, of) for (m, k, n), times in self.gemms.items()]
        return float(max(rates))

    def fraction(self, implementation: str, of: str = "median") -> float:
        """The UNet's rate in terms of the matrix product's: medians with medians, minima with minima."""
        return float(self.flops / getattr(self.unet[implementation], of) / self.gemm_rate(of))

    def to_dict(self) -> dict[str, Any]:
        return {
            "evaluations": self.rows,
            "flops": self.flops,
            "gemm": {
                "rate": self.gemm_rate(),
                "best_rate": self.gemm_rate("minimum"),
                "shapes": [
                    {"shape": list(shape), "rate": 2 * np.prod(shape, dtype=float) / times.median}
                    for shape, times in self.gemms.items()
                ],
            },
            "unet": {
                implementation: {
                    **times.to_dict(),
                    "rate": self.flops / times.median,
                    "fraction": self.fraction(implementation),
                    "fraction_of_minima": self.fraction(implementation, "minimum"),
                }
                for implementation, times in self.unet.items()
            },
        }


def gemm_shapes(network: Network, rows: int) -> list[Gemm]:
    """The matrix products that most of a network's work is done in, for a batch of `rows` samples."""
    work: dict[Gemm, int] = {}
    for op in network.ops:
        if op.gemm is not None and op.kind in ("conv", "linear"):
            work[op.gemm] = work.get(op.gemm, 0) + op.flops
    ordered = sorted(work, key=lambda shape: (-work[shape], shape))
    total, covered, shapes = sum(work.values()), 0, []
    for shape in ordered[:_MOST]:
        shapes.append((rows * shape[0], *shape[1:]))
        covered += work[shape]
        if covered >= _SHARE * total:
            break
    return shapes


def measure_peak(
    ours: Ours,
    others: Mapping[str, DiffusersBest],
    settings: BenchSettings,
    accounting: Accounting,
    *,
    repeats: int,
    clock: Clock,
    before: Callable[[], None] = lambda: None,
) -> Peak:
    """Matrix products of the network's sizes and evaluations of the UNet, in turns."""
    on = evaluation_settings(ours, settings)
    rows = on.steps
    net = accounting.unet
    # Keys and values of the one text need to be made once.
    flops = rows * (net.total - net.text) + net.text

    shapes = gemm_shapes(net, rows)
    products = _products(shapes, ours.scorer.device, ours.scorer.dtype)
    runs: dict[str, Callable[[int], Any]] = {str(shape): product for shape, product in products.items()}
    runs |= own_parts(ours, on, {"whole": {}})
    for name, implementation in others.items():
        runs[name] = implementation.evaluations(on)

    def ready(name: str) -> None:
        before()
        if name in others:
            others[name].prepare_evaluations(None)

    in_turns(runs, 1, clock, before=ready)  # does not count
    times = in_turns(runs, repeats, clock, before=ready)
    unet = {OURS: less_encoders(times, "whole"), **{name: times[name] for name in others}}
    return Peak({shape: times[str(shape)] for shape in shapes}, unet, flops, rows)


def _products(shapes: list[Gemm], device: str, dtype: str) -> dict[Gemm, Callable[[int], Any]]:
    import torch

    def product(m: int, k: int, n: int) -> Callable[[int], Any]:
        kind: Any = {"device": device, "dtype": getattr(torch, dtype)}
        a, b, out = torch.randn(m, k, **kind), torch.randn(n, k, **kind), torch.empty(m, n, **kind)
        return lambda _: torch.mm(a, b.T, out=out)

    return {shape: product(*shape) for shape in shapes}
