"""How the time of a request grows with images, texts, timesteps and resolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from discffusion.bench.clock import Clock, Times, in_turns
from discffusion.bench.sides import Side
from discffusion.bench.sides.ours import Ours
from discffusion.bench.workloads import Draw, Terms, Workload, draw, make_terms

__all__ = ["Growth", "line", "measure_growth", "resolutions"]

#: sizes by what grows; everything else stays at one, and timesteps at those of the terms
SIZES: Mapping[str, tuple[int, ...]] = {
    "images": (1, 2, 4, 8),
    "texts": (1, 2, 4, 8),
    "steps": (1, 2, 5, 10, 20),
}


@dataclass
class Growth:
    """By what grows, its sizes; and the times of each size by side."""

    sizes: dict[str, tuple[int, ...]]
    times: dict[str, dict[str, list[Times]]]

    def line(self, what: str, side: str) -> tuple[float, float]:
        """Seconds that a request takes at all, and for each more of `what`: a straight line through the medians."""
        return line(self.sizes[what], [times.median for times in self.times[what][side]])

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for what, sizes in self.sizes.items():
            found[what] = {"sizes": list(sizes), "sides": {}}
            for side, times in self.times[what].items():
                own: dict[str, Any] = {"times": [one.to_dict() for one in times]}
                if what != "resolution":
                    own["fixed"], own["each"] = self.line(what, side)
                found[what]["sides"][side] = own
        return found


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
    sides: Mapping[str, Side],
    ours: Ours,
    terms: Terms,
    sizes: Mapping[str, Sequence[int]],
    *,
    repeats: int,
    clock: Clock,
    before: Callable[[], None] = lambda: None,
) -> Growth:
    """Times all sides at all sizes of one thing after another; ``resolution`` may be among them."""
    times: dict[str, dict[str, list[Times]]] = {}
    for what, wanted in sizes.items():
        requests = [_drawn(*_request(what, size, terms, ours), repeats + 1) for size in wanted]
        runs: dict[str, Callable[[int], Any]] = {}
        for name, side in sides.items():
            for place, request in enumerate(requests):
                runs[f"{name} {place}"] = _call(side, *request)

        def ready(key: str) -> None:
            before()
            sides[key.rpartition(" ")[0]].prepare()

        in_turns(runs, 1, clock, before=ready)  # does not count
        found = in_turns(runs, repeats, clock, before=ready, first=1)
        times[what] = {name: [found[f"{name} {place}"] for place in range(len(wanted))] for name in sides}
    return Growth({what: tuple(wanted) for what, wanted in sizes.items()}, times)


def _request(what: str, size: int, terms: Terms, ours: Ours) -> tuple[Workload, Terms]:
    if what == "images":
        return Workload(size, 1), terms
    if what == "texts":
        return Workload(1, size), terms
    if what == "steps":
        return Workload(1, 1), make_terms(ours.scorer, size, terms.resolution, terms.method, terms.map)
    return Workload(1, 1), make_terms(ours.scorer, terms.steps, size, terms.method, terms.map)


def _drawn(workload: Workload, terms: Terms, number: int) -> tuple[list[Draw], Terms]:
    return [draw(workload, terms.resolution, repeat) for repeat in range(number)], terms


def _call(side: Side, draws: Sequence[Draw], terms: Terms) -> Callable[[int], Any]:
    return lambda repeat: side.matrix(draws[repeat].images, draws[repeat].texts, terms)
