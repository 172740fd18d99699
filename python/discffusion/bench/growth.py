"""How the time of a request grows with images, texts, timesteps and resolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from discffusion.bench.clock import Clock, Times, in_turns
from discffusion.bench.implementations import Implementation
from discffusion.bench.implementations.ours import Ours
from discffusion.bench.settings import BenchSettings, make_settings
from discffusion.bench.workloads import Draw, Workload, draw

__all__ = ["Growth", "line", "measure_growth", "resolutions"]

#: sizes by what grows; everything else stays at one, and timesteps at those of the settings
SIZES: Mapping[str, tuple[int, ...]] = {
    "images": (1, 2, 4, 8),
    "texts": (1, 2, 4, 8),
    "steps": (1, 2, 5, 10, 20),
}


@dataclass
class Growth:
    """By what grows, its sizes; and the times of each size by implementation."""

    sizes: dict[str, tuple[int, ...]]
    times: dict[str, dict[str, list[Times]]]

    def line(self, what: str, implementation: str) -> tuple[float, float]:
        """Seconds that a request takes at all, and for each more of `what`: a straight line through the medians."""
        return line(self.sizes[what], [times.median for times in self.times[what][implementation]])

    def to_dict(self) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for what, sizes in self.sizes.items():
            plain[what] = {"sizes": list(sizes), "implementations": {}}
            for implementation, times in self.times[what].items():
                own: dict[str, Any] = {"times": [one.to_dict() for one in times]}
                if what != "resolution":
                    own["fixed"], own["each"] = self.line(what, implementation)
                plain[what]["implementations"][implementation] = own
        return plain


def line(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Intercept and slope of the least squares of relative errors, so that the small sizes count as much."""
    weights = 1 / np.asarray(seconds)
    matrix = np.stack([np.ones(len(sizes)), np.asarray(sizes, dtype=float)], axis=1)
    (fixed, each), *_ = np.linalg.lstsq(matrix * weights[:, None], np.asarray(seconds) * weights, rcond=None)
    return float(fixed), float(each)


def resolutions(own: int, unit: int) -> tuple[int, ...]:
    """Half to twice a resolution, in multiples of `unit`, the pixels that become one in the middle of the network."""
    # Self-attention grows with the fourth power: beyond 512 pixels a CPU takes minutes.
    factors = (0.5, 0.75, 1.0) if own > 256 else (0.5, 1.0, 1.5, 2.0)
    return tuple(dict.fromkeys(max(unit, round(own * factor / unit) * unit) for factor in factors))


def measure_growth(
    implementations: Mapping[str, Implementation],
    ours: Ours,
    settings: BenchSettings,
    sizes: Mapping[str, Sequence[int]],
    *,
    repeats: int,
    clock: Clock,
    before: Callable[[], None] = lambda: None,
) -> Growth:
    """Times all implementations at all sizes of one thing after another; ``resolution`` may be among them."""
    times: dict[str, dict[str, list[Times]]] = {}
    for what, wanted in sizes.items():
        requests = [_drawn(*_request(what, size, settings, ours), repeats + 1) for size in wanted]
        runs: dict[str, Callable[[int], Any]] = {}
        for name, implementation in implementations.items():
            for place, request in enumerate(requests):
                runs[f"{name} {place}"] = _call(implementation, *request)

        def ready(key: str) -> None:
            before()
            implementations[key.rpartition(" ")[0]].prepare()

        in_turns(runs, 1, clock, before=ready)  # does not count
        timings = in_turns(runs, repeats, clock, before=ready, first=1)
        times[what] = {
            name: [timings[f"{name} {place}"] for place in range(len(wanted))] for name in implementations
        }
    return Growth({what: tuple(wanted) for what, wanted in sizes.items()}, times)


def _request(what: str, size: int, settings: BenchSettings, ours: Ours) -> tuple[Workload, BenchSettings]:
    if what == "images":
        return Workload(size, 1), settings
    if what == "texts":
        return Workload(1, size), settings
    if what == "steps":
        return Workload(1, 1), make_settings(
            ours.scorer, size, settings.resolution, settings.method, settings.map
        )
    return Workload(1, 1), make_settings(ours.scorer, settings.steps, size, settings.method, settings.map)


def _drawn(workload: Workload, settings: BenchSettings, number: int) -> tuple[list[Draw], BenchSettings]:
    return [draw(workload, settings.resolution, repeat) for repeat in range(number)], settings


def _call(
    implementation: Implementation, draws: Sequence[Draw], settings: BenchSettings
) -> Callable[[int], Any]:
    return lambda repeat: implementation.matrix(draws[repeat].images, draws[repeat].texts, settings)
