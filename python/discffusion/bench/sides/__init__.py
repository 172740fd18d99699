"""The sides of the comparison: this package, and others' ways of computing the same scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import ConfigError

if TYPE_CHECKING:
    from discffusion.bench.clock import Clock
    from discffusion.bench.sides.modules import Modules
    from discffusion.bench.workloads import Terms

__all__ = ["OURS", "SIDES", "Place", "Side", "all_sides", "chosen", "make"]

OURS = "discffusion"
#: what each side is
SIDES: dict[str, str] = {
    OURS: "this package",
    "released-1": "the algorithm of the released code, one pair at a time",
    "released-16": "the algorithm of the released code, up to 16 pairs at a time",
    "diffusers-batched": "diffusers at its best: encoders once, no pass without text, batched over pairs and timesteps",
    "diffusers-loop": "the usual loop with diffusers: encoders once, then one evaluation at a time",
}
_FAMILIES = {
    "released": ("released-1", "released-16"),
    "diffusers": ("diffusers-batched", "diffusers-loop"),
}


@dataclass(frozen=True)
class Place:
    """Where sides compute, and with what."""

    folder: Path
    variant: str | None = None
    device: str = "cpu"
    dtype: str = "float32"


class Side(Protocol):
    """One way of computing scores."""

    @property
    def about(self) -> dict[str, Any]:
        """Choices that were made for it, plain data."""
        ...

    def prepare(self) -> None:
        """Readies what sides share, while no clock runs; called before each timing."""
        ...

    def matrix(self, images: Sequence[bytes], texts: Sequence[str], terms: Terms) -> NDArray[np.float64]:
        """Scores of encoded images and texts, from the files to the numbers, ``[n_images, n_texts]``."""
        ...

    def tune(self, terms: Terms, rows: int, clock: Clock) -> None:
        """Chooses what is quickest on this machine for up to `rows` evaluations; most have nothing to choose."""
        ...

    def unable(self, pairs: int, terms: Terms) -> str | None:
        """Why it cannot score so many pairs, or None if it can."""
        ...


def chosen(names: Iterable[str]) -> list[str]:
    """Sides by name, or by family: ``released``, ``diffusers``.

    Raises:
        ConfigError: there is no such side.
    """
    found: dict[str, None] = {}
    for name in names:
        members = _FAMILIES.get(name, (name,))
        for member in members:
            if member not in SIDES:
                known = ", ".join([*_FAMILIES, *SIDES])
                raise ConfigError(f"against is {name!r}; there are {known}")
            if member != OURS:
                found.setdefault(member)
    return list(found)


def make(name: str, place: Place, modules: Modules | None = None) -> Side:
    """The side of this name, loaded.

    Args:
        modules: the model as diffusers reads it, if it is loaded already: the other sides share it.

    Raises:
        InstallationError: diffusers or transformers is missing.
    """
    if name == OURS:
        from discffusion.bench.sides.ours import Ours

        return Ours(place)
    from discffusion.bench.sides.diffusers_best import DiffusersBest
    from discffusion.bench.sides.modules import Modules
    from discffusion.bench.sides.released import Released

    shared = Modules(place) if modules is None else modules
    if name.startswith("released-"):
        return Released(shared, batch=int(name.rpartition("-")[2]))
    return DiffusersBest(shared, loop=name == "diffusers-loop")


def all_sides(place: Place, names: Iterable[str]) -> dict[str, Side]:
    """Sides other than ours, in the order of :data:`SIDES`; all share one copy of the weights."""
    wanted = set(names)
    if not wanted:
        return {}
    from discffusion.bench.sides.modules import Modules

    modules = Modules(place)
    return {name: make(name, place, modules) for name in SIDES if name in wanted}
