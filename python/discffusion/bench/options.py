"""What a benchmark measures, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from discffusion.bench.clock import CLOCKS
from discffusion.bench.runner import Repeats
from discffusion.bench.sides import chosen
from discffusion.bench.workloads import WORKLOADS, Workload
from discffusion.errors import ConfigError

__all__ = ["MAPS", "METHODS", "PARTS", "Options"]

#: what is measured, in this order
PARTS = ("requests", "stages", "peak", "memory", "growth")
METHODS = ("attention", "combined")
MAPS = ("logits", "probs", "cosine")
_USUAL: tuple[str, ...] = ("released", "diffusers")
_QUICK_PARTS = 3
_QUICK_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a benchmark.

    Attributes:
        workloads: numbers of images and texts, as ``"1x10"``; default: five, with the sides that suit each.
        against: sides or families of them, see :data:`discffusion.bench.sides.SIDES`; given, they are measured in all
            workloads. With none, this package is measured alone, and neither diffusers nor transformers is needed.
        parts: of ``requests``, ``stages``, ``peak``, ``memory``, ``growth``; default: all, quickly the first three.
        steps: timesteps of a score.
        resolution: side of the images, pixels; default: the model's own.
        method: ``"attention"`` or ``"combined"``.
        map: ``"logits"``, ``"probs"`` or ``"cosine"``.
        repeats: timings of everything; default: as many as a few seconds allow, three at the least.
        threads: for all sides; default: as many as torch takes by itself.
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
        for part in self.parts or ():
            _one_of("part", part, PARTS)
        _one_of("method", self.method, METHODS)
        _one_of("map", self.map, MAPS)
        _one_of("clock", self.clock, tuple(CLOCKS))
        for name in ("steps", "resolution", "repeats", "threads"):
            number = getattr(self, name)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise ConfigError(f"{name} is {number!r}; expected a whole number above 0")
        self.sides()

    def sides(self) -> dict[Workload, list[str]]:
        """The workloads, and the sides that each is measured against."""
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


def _one_of(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{name} is {value!r}; there are {', '.join(known)}")
