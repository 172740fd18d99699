"""All implementations on the same requests, in turns, in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.bench.accounting import Accounting
from discffusion.bench.clock import Clock, Times, in_turns
from discffusion.bench.implementations import OURS, Implementation
from discffusion.bench.settings import BenchSettings
from discffusion.bench.workloads import Draw, Workload, draw
from discffusion.errors import DiscffusionError

__all__ = ["Comparison", "DisagreementError", "Repeats", "compare", "tolerance"]


# A workload that takes so many seconds is not run just to warm up: its one timestep did that.
_SHORT = 10.0


class DisagreementError(DiscffusionError):
    """An implementation computes other scores, so that its times are of other work."""


@dataclass(frozen=True)
class Repeats:
    """How often a workload is timed.

    Attributes:
        number: so often; or, if None, as often as `seconds` allow, `least` to `most` times.
        warm_up: runs before, which do not count; none where the workload takes long.
    """

    number: int | None = None
    warm_up: int = 1
    seconds: float = 6.0
    least: int = 3
    most: int = 25

    def of(self, one: float) -> int:
        """The number, where one repeat of all implementations takes `one` seconds."""
        if self.number is not None:
            return self.number
        return max(self.least, min(self.most, int(self.seconds / max(one, 1e-6))))


@dataclass
class Comparison:
    """One workload on all implementations.

    Attributes:
        times: by implementation.
        apart: how far an implementation's scores are from ours: the greatest difference in terms of the mean size of a
            score.
        left_out: implementations that were not measured, and why.
        flops: operations that each implementation's way of computing takes, where they are counted; for ours the least
            that gives these scores.
    """

    workload: Workload
    times: dict[str, Times]
    apart: dict[str, float]
    left_out: dict[str, str] = field(default_factory=dict)
    flops: dict[str, int] = field(default_factory=dict)

    def ratio(self, name: str, of: str = "median") -> float:
        """How many times longer an implementation takes than ours; `of` is ``"median"`` or ``"minimum"``."""
        theirs, ours = (getattr(self.times[implementation], of) for implementation in (name, OURS))
        return float(theirs / ours)

    def to_dict(self) -> dict[str, Any]:
        return {
            "workload": str(self.workload),
            "implementations": {
                name: {
                    **times.to_dict(),
                    "ratio_of_medians": self.ratio(name),
                    "ratio_of_minima": self.ratio(name, "minimum"),
                    "apart": self.apart.get(name, 0.0),
                    "flops": self.flops.get(name),
                }
                for name, times in self.times.items()
            },
            "left_out": dict(self.left_out),
        }


def tolerance(dtype: str) -> float:
    """How far scores may be apart by rounding: 1e-4 in float32."""
    return 1e-4 if dtype == "float32" else 2e-2


def compare(
    implementations: Mapping[str, Implementation],
    workload: Workload,
    settings: BenchSettings,
    *,
    repeats: Repeats,
    clock: Clock,
    dtype: str = "float32",
    accounting: Accounting | None = None,
    before: Callable[[], None] = lambda: None,
) -> Comparison:
    """Times `workload` on all implementations; each repeat has pictures and captions of its own, the same for all.

    Args:
        implementations: by name; ours is among them.
        before: called before each timing, while no clock runs.

    Raises:
        DisagreementError: an implementation's scores are further from ours than rounding explains.
    """
    reasons = {
        name: implementation.unable(workload.pairs, settings)
        for name, implementation in implementations.items()
    }
    left_out = {name: reason for name, reason in reasons.items() if reason is not None}
    taking_part = {
        name: implementation for name, implementation in implementations.items() if name not in left_out
    }
    apart: dict[str, float] = {}
    scores: dict[tuple[str, int], NDArray[np.float64]] = {}

    def ready(name: str) -> None:
        before()
        taking_part[name].prepare()

    def calls(draws: Sequence[Draw], on: BenchSettings) -> dict[str, Callable[[int], Any]]:
        def call(name: str) -> Callable[[int], Any]:
            def score(repeat: int) -> None:
                own = draws[repeat]
                scores[name, repeat] = taking_part[name].matrix(own.images, own.texts, on)

            return score

        return {name: call(name) for name in taking_part}

    def check() -> None:
        for (name, repeat), matrix in scores.items():
            ours = scores[OURS, repeat]
            own = float(np.abs(matrix - ours).max() / np.abs(ours).mean())
            if not own <= tolerance(dtype):  # so that NaN is no agreement
                raise DisagreementError(
                    f"{name} and {OURS} were to compute the same scores of {workload}, but are {own:.1e} apart (at "
                    f"most {tolerance(dtype):.0e} is rounding): their times are not of equal work"
                )
            apart[name] = max(apart.get(name, 0.0), own)
        scores.clear()

    first = [draw(workload, settings.resolution, number) for number in range(1 + repeats.warm_up)]
    # One timestep tells whether the implementations agree, before minutes are spent, and how long the whole will take.
    short = in_turns(calls(first, settings.first(1)), 1, clock, before=ready)
    check()
    expected = sum(times.minimum for times in short.values()) * settings.steps
    if repeats.warm_up and expected < _SHORT:
        warm = in_turns(calls(first[1:], settings), repeats.warm_up, clock, before=ready)
        check()
        expected = sum(times.minimum for times in warm.values())
    number = repeats.of(expected)
    draws = [draw(workload, settings.resolution, len(first) + repeat) for repeat in range(number)]
    times = in_turns(calls(draws, settings), number, clock, before=ready)
    check()
    return Comparison(workload, times, apart, left_out, _flops(accounting, workload, settings, times))


def _flops(
    accounting: Accounting | None, workload: Workload, settings: BenchSettings, names: Mapping[str, Any]
) -> dict[str, int]:
    if accounting is None:
        return {}
    size = (workload.images, workload.texts, settings.steps)
    flops = {}
    for name in names:
        if name == OURS:
            flops[name] = accounting.needed(*size, settings.method)
        elif name.startswith("released"):
            flops[name] = accounting.released(*size)
        else:
            flops[name] = accounting.cached(*size, settings.method)
    return flops
