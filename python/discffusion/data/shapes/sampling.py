"""Scenes from random numbers, and scenes that differ from one in exactly one thing."""

from __future__ import annotations

import random
from typing import NamedTuple

from discffusion.data.shapes.randomness import fraction, integer, pick
from discffusion.data.shapes.relations import Layout, draw_layout, lay_out, possible
from discffusion.data.shapes.scene import Background, Scene, Thing
from discffusion.data.shapes.vocabulary import CANVAS, COLOURS, RELATIONS, SHAPES

_COLOURS = tuple(COLOURS)
# share of all scenes that each split owns; the scene's description decides
_SHARES = (("train", 0.5), ("eval", 0.25), ("test", 0.25))


class Plan(NamedTuple):
    """A scene before it is laid out: the words of its caption, and the choices that stay when a word is changed."""

    subject: tuple[str, str]  # colour, shape
    relation: str
    object: tuple[str, str]
    layout: Layout
    background: Background

    def possible(self) -> bool:
        """Whether the words make a scene in which the two things differ."""
        return self.subject != self.object and possible(self.relation, self.subject[1], self.object[1])

    def scene(self) -> Scene:
        """The scene; each split owns some, see :func:`split_of`."""
        first, second = lay_out(self.relation, self.subject[1], self.object[1], self.layout)
        subject, other = (
            Thing(self.subject[1], self.subject[0], *first),
            Thing(self.object[1], self.object[0], *second),
        )
        return Scene(subject, self.relation, other, self.background)


def split_of(scene: Scene) -> str:
    """The one split that may show the scene, whatever its background."""
    position = fraction(scene.description())
    for name, share in _SHARES:
        position -= share
        if position < 0:
            return name
    return _SHARES[-1][0]


def draw_plan(rng: random.Random, relations: tuple[str, ...] = RELATIONS) -> Plan:
    """A possible plan: every relation, shape and colour about equally often."""
    relation = pick(rng, relations)
    while True:
        subject = (pick(rng, _COLOURS), pick(rng, SHAPES))
        other = (pick(rng, _COLOURS), pick(rng, SHAPES))
        plan = Plan(subject, relation, other, draw_layout(rng), draw_background(rng))
        if plan.possible():
            return plan


def draw_background(rng: random.Random) -> Background:
    """Pale, so that every colour stands out."""
    grey = integer(rng, 195, 235)
    tint = tuple(min(255, grey + integer(rng, -8, 12)) for _ in range(3))
    return Background((tint[0], tint[1], tint[2]), (integer(rng, -12, 12), integer(rng, -12, 12)))


def draw_single(rng: random.Random) -> Scene:
    """One thing alone, anywhere."""
    size = integer(rng, 9, 11)
    low, high = size // 2 + 2, CANVAS - 2 - size // 2
    thing = Thing(
        pick(rng, SHAPES), pick(rng, _COLOURS), integer(rng, low, high), integer(rng, low, high), size
    )
    return Scene(thing, None, None, draw_background(rng))


def other_than(rng: random.Random, options: tuple[str, ...], *taken: str) -> str:
    """One of the options that is not taken."""
    return pick(rng, [option for option in options if option not in taken])
