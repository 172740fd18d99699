"""Outlines of the shapes, and how near two of them can come."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

Points = list[tuple[float, float]]

# corners within the unit box [-0.5, 0.5]^2, y downwards; the circle is a polygon of many corners
_ARM = 0.17
_OUTLINES: dict[str, Points] = {
    "circle": [
        (0.5 * math.cos(2 * math.pi * k / 48), 0.5 * math.sin(2 * math.pi * k / 48)) for k in range(48)
    ],
    "square": [(-0.46, -0.46), (0.46, -0.46), (0.46, 0.46), (-0.46, 0.46)],
    "triangle": [(0.0, -0.5), (0.5, 0.46), (-0.5, 0.46)],
    "diamond": [(0.0, -0.5), (0.44, 0.0), (0.0, 0.5), (-0.44, 0.0)],
    "cross": [
        (-_ARM, -0.5), (_ARM, -0.5), (_ARM, -_ARM), (0.5, -_ARM), (0.5, _ARM), (_ARM, _ARM),
        (_ARM, 0.5), (-_ARM, 0.5), (-_ARM, _ARM), (-0.5, _ARM), (-0.5, -_ARM), (-_ARM, -_ARM),
    ],
}  # fmt: skip
# centre of the free room of a hollow shape, in units of its size
_ROOM: dict[str, tuple[float, float]] = {"triangle": (0.0, 0.14)}


def outline(shape: str, cx: float, cy: float, size: float) -> Points:
    """Corners of the shape around a centre, in the units of ``size``."""
    return [(cx + x * size, cy + y * size) for x, y in _OUTLINES[shape]]


def room(shape: str) -> tuple[float, float]:
    """Where the middle of the room inside a hollow shape lies from its centre, in units of its size."""
    return _ROOM.get(shape, (0.0, 0.0))


def covers(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points (relative to the centre, in units of the size) lie in the shape."""
    corners = _OUTLINES[shape]
    inside = np.zeros(np.broadcast(x, y).shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


@cache
def contact(subject: str, other: str, sx: int, sy: int) -> float:
    """How far apart along x and along y two shapes of size 1 touch, the subject lying at ``(sx, sy)`` = (+-1, +-1).

    The largest offset ``d`` for which the subject, moved to ``(sx d, sy d)``, still meets the other.
    """
    grid = (np.arange(96) + 0.5) / 96 * 1.2 - 0.6
    x, y = np.meshgrid(grid, grid)
    fixed = covers(other, x, y)
    for step in range(60, 0, -1):
        d = step / 60
        if (fixed & covers(subject, x - sx * d, y - sy * d)).any():
            return d
    return 0.0
