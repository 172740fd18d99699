"""What a scene is: shapes with their places, one relation, a background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Thing(NamedTuple):
    """One shape. Centre and size (side of the bounding box) are in scene pixels."""

    shape: str
    colour: str
    cx: float
    cy: float
    size: float
    hollow: bool = False

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    def box(self, scale: float = 1.0) -> tuple[float, float, float, float]:
        """Bounding box ``(x, y, w, h)``: left, top, width, height, in pixels of an image scaled by ``scale``."""
        half = self.size / 2
        return ((self.cx - half) * scale, (self.cy - half) * scale, self.size * scale, self.size * scale)


class Background(NamedTuple):
    """A plain colour with a slight linear shade: ``slope`` grey levels across the canvas, along x and y."""

    rgb: tuple[int, int, int]
    slope: tuple[int, int]


@dataclass(frozen=True)
class Scene:
    """A subject in a relation to an object, or a lone subject (``relation`` and ``object`` None)."""

    subject: Thing
    relation: str | None
    object: Thing | None
    background: Background

    @property
    def things(self) -> tuple[Thing, ...]:
        return (self.subject,) if self.object is None else (self.subject, self.object)

    def description(self) -> str:
        """The things and their places, in one canonical order and without the background.

        Two scenes with one description show the same; this is what decides the split.
        """
        return "; ".join(
            f"{t.colour} {t.shape} {t.cx:g} {t.cy:g} {t.size:g} {int(t.hollow)}" for t in sorted(self.things)
        )
