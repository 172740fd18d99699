"""Geometry of the relations: how each is laid out, and when it holds even loosely.

The layouts exclude each other: the four directions keep a visible gap and stay within two pixels of a common line;
``touching`` and ``far from`` lie on a diagonal, in contact or in opposite corners; ``inside`` and ``around`` share a
centre.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from discffusion.data.shapes.outline import contact, room
from discffusion.data.shapes.randomness import integer, pick
from discffusion.data.shapes.scene import Scene, Thing
from discffusion.data.shapes.vocabulary import CANVAS, CONTAINERS

Placement = tuple[float, float, float, bool]  # cx, cy, size, hollow

_SIGN = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
_GAP = 3  # least room between two shapes on one line, pixels
_REACH = 18  # largest distance of their centres
_FAR = 17  # least distance of `far from` along both axes
_SLACK = 2  # how far they may be off the line


class Layout(NamedTuple):
    """The free choices of a scene's geometry, kept when one word of the caption is changed."""

    size: int  # of both shapes, where neither holds the other
    container: int  # size of the one that holds the other
    middle: tuple[int, int]  # wished centre of the pair
    spread: float  # 0..1: how far apart, within what the relation allows
    slack: int  # offset from the common line
    diagonal: tuple[int, int]  # side of the subject for the diagonal relations


def draw_layout(rng: random.Random) -> Layout:
    return Layout(
        size=integer(rng, 9, 11),
        container=integer(rng, 24, 28),
        middle=(integer(rng, 9, CANVAS - 9), integer(rng, 9, CANVAS - 9)),
        spread=rng.random(),
        slack=integer(rng, -_SLACK, _SLACK),
        diagonal=(pick(rng, (-1, 1)), pick(rng, (-1, 1))),
    )


def possible(relation: str, subject: str, other: str) -> bool:
    """Whether two shapes can stand in the relation at all."""
    if relation == "inside":
        return other in CONTAINERS
    if relation == "around":
        return subject in CONTAINERS
    return True


def lay_out(relation: str, subject: str, other: str, layout: Layout) -> tuple[Placement, Placement]:
    """Places of subject and object (given by their shapes) in the relation."""
    if relation == "inside":
        return _contained(other, layout)
    if relation == "around":
        inner, outer = _contained(subject, layout)
        return outer, inner
    size = layout.size
    if relation in _SIGN:
        sx, sy = _SIGN[relation]
        apart = round(size + _GAP + layout.spread * (_REACH - size - _GAP))
        dx, dy = (sx * apart, layout.slack) if sx else (layout.slack, sy * apart)
    elif relation == "touching":
        sx, sy = layout.diagonal
        reach = contact(subject, other, sx, sy) * size - 0.5
        dx, dy = round(sx * reach), round(sy * reach)
    else:
        sx, sy = layout.diagonal
        apart = _FAR + round(layout.spread * (CANVAS - 2 - size - _FAR))
        dx, dy = sx * apart, sy * min(CANVAS - 2 - size, max(_FAR, apart + layout.slack))
    return _around_middle(dx, dy, size, layout.middle)


def _contained(container: str, layout: Layout) -> tuple[Placement, Placement]:
    """Places of the inner and the outer shape."""
    half = layout.container / 2
    cx, cy = (_clamp(m, half) for m in layout.middle)
    rx, ry = room(container)
    inner = (round(cx + rx * layout.container), round(cy + ry * layout.container), layout.size - 2, False)
    return inner, (cx, cy, layout.container, True)


def _around_middle(dx: int, dy: int, size: int, middle: tuple[int, int]) -> tuple[Placement, Placement]:
    """Subject at ``(dx, dy)`` from the object, the pair about the middle, both on the canvas."""
    half = size / 2

    def place(m: int, d: int) -> tuple[float, float]:
        other = m - d // 2
        subject = other + d
        shift = max(0.0, half + 1 - min(other, subject)) - max(0.0, max(other, subject) - (CANVAS - 1 - half))
        return round(subject + shift), round(other + shift)

    sx, ox = place(middle[0], dx)
    sy, oy = place(middle[1], dy)
    return (sx, sy, size, False), (ox, oy, size, False)


def _clamp(value: float, half: float) -> float:
    return round(min(max(value, half + 1), CANVAS - 1 - half))


def holds_loosely(relation: str, scene: Scene) -> bool:
    """Whether a generous reader could say that the relation holds in the scene."""
    subject, other = scene.subject, scene.object
    if other is None:
        return False
    if subject.hollow or other.hollow:
        return relation == ("around" if subject.hollow else "inside")
    dx, dy = subject.cx - other.cx, subject.cy - other.cy
    if relation in _SIGN:
        sx, sy = _SIGN[relation]
        return sx * dx + sy * dy > _SLACK
    if relation == "touching":
        return _gap(subject, other) < 2
    if relation == "far from":
        return math.hypot(dx, dy) > _REACH + 3
    return False


def _gap(a: Thing, b: Thing) -> float:
    """Free room between two bounding boxes along the axis where it is larger, pixels (negative: they overlap)."""
    reach = (a.size + b.size) / 2
    return max(abs(a.cx - b.cx), abs(a.cy - b.cy)) - reach
