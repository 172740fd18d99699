"""The implementations of the comparison: this package, and others' ways of computing the same scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from discffusion._registry import Entry, Registry
from discffusion.errors import ConfigError

if TYPE_CHECKING:
    from discffusion.bench.clock import Clock
    from discffusion.bench.implementations.diffusers_model import DiffusersModel
    from discffusion.bench.settings import BenchSettings

__all__ = ["IMPLEMENTATIONS", "OURS", "Implementation", "ModelSpec", "chosen", "load", "load_others"]

OURS = "discffusion"
_HERE = "discffusion.bench.implementations"
#: what makes each, of a :class:`ModelSpec` for this package and of a :class:`DiffusersModel` for the others
IMPLEMENTATIONS: Registry[Callable[..., Implementation]] = Registry(
    "implementation",
    {
        OURS: Entry(f"{_HERE}.ours:Ours", "this package"),
        "released-1": Entry(
            f"{_HERE}.released:ONE_PAIR", "the algorithm of the released code, one pair at a time"
        ),
        "released-16": Entry(
            f"{_HERE}.released:SIXTEEN_PAIRS", "the algorithm of the released code, up to 16 pairs at a time"
        ),
        "diffusers-batched": Entry(
            f"{_HERE}.diffusers_best:BATCHED",
            "diffusers at its best: encoders once, no pass without text, batched over pairs and timesteps",
        ),
        "diffusers-loop": Entry(
            f"{_HERE}.diffusers_best:LOOP",
            "the usual loop with diffusers: encoders once, then one evaluation at a time",
        ),
    },
    note=" (released and diffusers stand for both of theirs)",
)
_FAMILIES = {
    "released": ("released-1", "released-16"),
    "diffusers": ("diffusers-batched", "diffusers-loop"),
}


@dataclass(frozen=True)
class ModelSpec:
    """Where implementations compute, and with what."""

    folder: Path
    variant: str | None = None
    device: str = "cpu"
    dtype: str = "float32"


class Implementation(Protocol):
    """One way of computing scores."""

    @property
    def about(self) -> dict[str, Any]:
        """Choices that were made for it, plain data."""
        ...

    def prepare(self) -> None:
        """Readies what implementations share, while no clock runs; called before each timing."""
        ...

    def matrix(
        self, images: Sequence[bytes], texts: Sequence[str], settings: BenchSettings
    ) -> NDArray[np.float64]:
        """Scores of encoded images and texts, from the files to the numbers, ``[n_images, n_texts]``."""
        ...

    def tune(self, settings: BenchSettings, rows: int, clock: Clock) -> None:
        """Chooses what is quickest on this machine for up to `rows` evaluations; most have nothing to choose."""
        ...

    def unable(self, pairs: int, settings: BenchSettings) -> str | None:
        """Why it cannot score so many pairs, or None if it can."""
        ...


def chosen(names: Iterable[str]) -> list[str]:
    """Implementations by name, or by family: ``released``, ``diffusers``.

    Raises:
        ConfigError: there is no such implementation.
    """
    members: dict[str, None] = {}
    for name in names:
        for member in _FAMILIES.get(name, (name,)):
            try:
                IMPLEMENTATIONS.entry(member)
            except ConfigError as error:
                raise ConfigError(f"against is {name!r}: {error}") from None
            if member != OURS:
                members.setdefault(member)
    return list(members)


def load(name: str, spec: ModelSpec, model: DiffusersModel | None = None) -> Implementation:
    """The implementation of this name.

    Args:
        model: what diffusers reads, if it is loaded already: the others share it.

    Raises:
        InstallationError: diffusers or transformers is missing.
    """
    make = IMPLEMENTATIONS.load(name)
    if name == OURS:
        return make(spec)
    if model is None:
        from discffusion.bench.implementations.diffusers_model import DiffusersModel

        model = DiffusersModel(spec)
    return make(model)


def load_others(spec: ModelSpec, names: Iterable[str]) -> dict[str, Implementation]:
    """Implementations other than ours, in the order of :data:`IMPLEMENTATIONS`; all share one copy of the weights."""
    wanted = [name for name in IMPLEMENTATIONS if name in set(names) - {OURS}]
    if not wanted:
        return {}
    from discffusion.bench.implementations.diffusers_model import DiffusersModel

    model = DiffusersModel(spec)
    return {name: load(name, spec, model) for name in wanted}
