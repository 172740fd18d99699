"""Clocks, and calls timed in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CLOCKS", "Clock", "Times", "in_turns"]

#: `cpu` is the time of this process on all cores: of use with one thread alone, on a machine that is busy otherwise
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Clock:
    """Times calls; on a GPU, until their last kernel is done."""

    name: str = "wall"
    device: str = "cpu"

    def time(self, call: Callable[[], Any]) -> float:
        """Seconds that `call` takes."""
        read, wait = CLOCKS[self.name], self._wait()
        wait()
        start = read()
        call()
        wait()
        return read() - start

    def _wait(self) -> Callable[[], Any]:
        if not self.device.startswith("cuda"):
            return lambda: None
        import torch

        return lambda: torch.cuda.synchronize(self.device)


@dataclass
class Times:
    """Repeated timings of one thing, in seconds."""

    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        return min(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        return {"median": self.median, "minimum": self.minimum, "seconds": list(self.seconds)}


def in_turns(
    calls: Mapping[str, Callable[[int], Any]],
    repeats: int,
    clock: Clock,
    *,
    before: Callable[[str], None] = lambda _: None,
    first: int = 0,
) -> dict[str, Times]:
    """Times all calls `repeats` times, one after another, in an order that changes.

    Each call is given the number of the repeat. The one that goes first moves on by one each time, and every second
    time the order is turned round, so that none always follows the same other.

    Args:
        before: called with the name before each timing, while no clock runs.
        first: the number of the first repeat.
    """
    times = {name: Times() for name in calls}
    names = list(calls)
    for repeat in range(repeats):
        start = repeat // 2 % len(names)
        order = names[start:] + names[:start]
        for name in order[:: -1 if repeat % 2 else 1]:
            before(name)
            call = calls[name]
            times[name].seconds.append(clock.time(lambda call=call, at=first + repeat: call(at)))  # type: ignore[misc]
    return times
