"""Words of the world: shapes, colours, relations."""

from __future__ import annotations

#: side of the canvas on which scenes are laid out, in scene pixels
CANVAS = 32

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "diamond", "cross")
#: shapes that are drawn large and hollow when they hold another one (a hollow cross has no room)
CONTAINERS: tuple[str, ...] = ("circle", "square", "triangle", "diamond")

#: name -> RGB of the filled shape
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 30, 35),
    "green": (25, 165, 60),
    "blue": (35, 75, 225),
    "yellow": (250, 215, 20),
    "purple": (155, 45, 185),
    "black": (15, 15, 15),
}

DIRECTIONS: tuple[str, ...] = ("left of", "right of", "above", "below")
CONTAINMENT: tuple[str, ...] = ("inside", "around")
SYMMETRIC: tuple[str, ...] = ("touching", "far from")
RELATIONS: tuple[str, ...] = DIRECTIONS + CONTAINMENT + SYMMETRIC
#: what the second thing is to the first
INVERSE: dict[str, str] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "inside": "around",
    "around": "inside",
    "touching": "touching",
    "far from": "far from",
}
