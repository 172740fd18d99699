"""What a benchmark measures, and how often."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from discffusion.bench.clock import CLOCKS
from discffusion.bench.implementations import chosen
from discffusion.bench.runner import Repeats
from discffusion.bench.workloads import WORKLOADS, Workload
from discffusion.errors import ConfigError

__all__ = ["MAPS", "METHODS", "PARTS", "Options"]

#: what is measured, in this order
PARTS = ("requests", "phases", "peak", "memory", "growth")
METHODS = ("attention", "combined")
MAPS = ("logits", "probs", "cosine")
_USUAL: tuple[str, ...] = ("released", "diffusers")
_QUICK_PARTS = 3
_QUICK_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a benchmark.

    Attributes:
        workloads: numbers of images and texts, as ``"1x10"``; default: five, with the implementations that suit each.
        against: implementations or families of them, see :mod:`discffusion.bench.implementations`; given, they are
            measured in all workloads. With none, this package is measured alone, and neither diffusers nor transformers
            is needed; without these, operations are not counted and the part ``peak`` is left out.
        parts: of ``requests``, ``phases``, ``peak``, ``memory``, ``growth``; default: all, quickly the first three.
        steps: timesteps of a score.
        resolution: side of the images, pixels; default: the model's own.
        method: ``"attention"`` or ``"combined"``.
        map: ``"logits"``, ``"probs"`` or ``"cosine"``.
        repeats: timings of everything; default: as many as a few seconds allow, three at the least.
        threads: for all implementations; default: as many as torch takes by itself.
        clock: ``"wall"``, or ``"cpu"`` for the time on all cores.
        quick: one workload and few repeats.

    Raises:
        ConfigError: an option is unknown or out of range.
    """

    workloads: Sequence[str] | None = None
    against: Sequence[str] | None = None
    parts: Sequence[str] | None = None
    steps: int = 10
    resolution: int | None = None
    method: str = "attention"
    map: str = "logits"
    repeats: int | None = None
    threads: int | None = None
    clock: str = "wall"
    quick: bool = False

    def __post_init__(self) -> None:
        if "stages" in (self.parts or ()):
            warnings.warn("the part stages is called phases now", DeprecationWarning, stacklevel=3)
            parts = ["phases" if part == "stages" else part for part in self.parts or ()]
            object.__setattr__(self, "parts", parts)
        for part in self.parts or ():
            _one_of("part", part, PARTS)
        _one_of("method", self.method, METHODS)
        _one_of("map", self.map, MAPS)
        _one_of("clock", self.clock, tuple(CLOCKS))
        for name in ("steps", "resolution", "repeats", "threads"):
            number = getattr(self, name)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise ConfigError(f"{name} is {number!r}; expected a whole number above 0")
        self.implementations()

    def implementations(self) -> dict[Workload, list[str]]:
        """The workloads, and the implementations that each is measured against."""
        if self.workloads is not None:
            wanted = {Workload.parse(text): _USUAL for text in self.workloads}
        else:
            wanted = dict(list(WORKLOADS.items())[: 1 if self.quick else None])
        return {
            workload: chosen(names if self.against is None else self.against)
            for workload, names in wanted.items()
        }

    def all_parts(self) -> list[str]:
        """The parts in the order they are measured."""
        wanted = self.parts or (PARTS[:_QUICK_PARTS] if self.quick else PARTS)
        return [part for part in PARTS if part in wanted]

    def timing(self) -> Repeats:
        """How often everything is timed."""
        return Repeats(self.repeats, seconds=_QUICK_SECONDS) if self.quick else Repeats(self.repeats)


def _one_of(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}; there are {', '.join(choices)}")
