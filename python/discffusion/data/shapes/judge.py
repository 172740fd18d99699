"""Which shapes an image shows, and whether that is what a caption says: a reader of drawings that uses no network.

Pixels are split by the colours that scenes are drawn in, neighbours of one colour make a patch, and a patch is the
shape whose outline covers it best. What is blurred, broken or of another colour is not recognised, nor are two things
of one colour that touch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from discffusion.data.shapes.outline import covers
from discffusion.data.shapes.relations import holds_loosely
from discffusion.data.shapes.render import hole
from discffusion.data.shapes.scene import Background, Scene, Thing
from discffusion.data.shapes.vocabulary import CANVAS, COLOURS, CONTAINERS, SHAPES

__all__ = ["Judgement", "judge", "things_in"]

_PALE = (215.0, 215.0, 215.0)
_LEAST_PIXELS = 12  # the smallest shape that is drawn, a diamond of 7 pixels, has 21
_LEAST_OVERLAP = 0.6  # of a patch and an outline, to be called a shape
_HOLLOW_FROM = 18  # size, scene pixels; what is drawn hollow has 24 to 28
_SAMPLES = 4  # along a side of a pixel
_BLANK = Background((215, 215, 215), (0, 0))

Floats = NDArray[np.float64]


class Judgement(NamedTuple):
    """What an image shows of what was asked for."""

    subject: bool
    object: bool
    relation: bool  # both are there and stand as asked

    @property
    def things(self) -> bool:
        """Whether both are there."""
        return self.subject and self.object


def judge(image: Any, subject: str, relation: str | None, other: str) -> Judgement:
    """Whether an image (RGB, of any size) shows ``red circle`` and ``blue square``, and the one ``left of`` the other.

    Things are told by colour and shape. Where they stand and how large they are counts for the relation alone, which
    is read generously.
    """
    things = things_in(image)
    subjects = [thing for thing in things if thing.name == subject]
    objects = [thing for thing in things if thing.name == other]
    related = relation is not None and any(
        holds_loosely(relation, Scene(one, relation, two, _BLANK)) for one in subjects for two in objects
    )
    return Judgement(bool(subjects), bool(objects), related)


def things_in(image: Any) -> list[Thing]:
    """The shapes that an image shows, the largest first; in scene pixels."""
    import PIL.Image

    if not isinstance(image, PIL.Image.Image):
        image = PIL.Image.fromarray(np.asarray(image))
    small = image.convert("RGB")
    if small.size != (CANVAS, CANVAS):
        small = small.resize((CANVAS, CANVAS), PIL.Image.Resampling.BOX)
    names = list(COLOURS)
    owner, share = _unmixed(np.asarray(small, dtype=np.float64))
    things = []
    for index, colour in enumerate(names):
        for patch in _patches((owner == index) & (share > 0.5)):
            if patch.sum() < _LEAST_PIXELS:
                continue
            thing = _best(_alone(patch, share * (owner == index)), colour)
            if thing is not None:
                things.append((int(patch.sum()), thing))
    return [thing for _, thing in sorted(things, key=lambda pair: -pair[0])]


def _unmixed(pixels: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Of every pixel, which colour it is mixed of with the background, and to which share: both [32, 32]."""
    pale = (np.ptp(pixels, axis=2) < 40) & (pixels.min(axis=2) > 170)
    ground = np.median(pixels[pale], axis=0) if pale.sum() > CANVAS else np.array(_PALE)
    ways = np.array(list(COLOURS.values()), dtype=np.float64) - ground  # [colours, 3]
    away = pixels - ground
    shares = (away @ ways.T / (ways**2).sum(axis=1)).clip(0, 1)  # [32, 32, colours]
    left = np.linalg.norm(away[:, :, None] - shares[..., None] * ways, axis=3)
    owner = left.argmin(axis=2)
    return owner, np.take_along_axis(shares, owner[..., None], axis=2)[..., 0]


def _patches(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    """Pixels that hang together, corners included."""
    left = mask.copy()
    while left.any():
        patch = np.zeros_like(left)
        patch[tuple(np.argwhere(left)[0])] = True
        while True:
            grown = _grown(patch) & left
            if (grown == patch).all():
                break
            patch = grown
        left &= ~patch
        yield patch


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    height, width = mask.shape
    grown: NDArray[np.bool_] = np.any(
        [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0
    )
    return grown


def _alone(patch: NDArray[np.bool_], share: Floats) -> Floats:
    """How much of each pixel belongs to the patch, its edge included."""
    alone: Floats = share * _grown(patch)
    return alone


def _best(shown: Floats, colour: str) -> Thing | None:
    """The shape that covers a patch best, if any covers it well."""
    ys, xs = np.nonzero(shown > 0.5)
    left, right, top, bottom = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
    cx, cy, side = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top)
    best, overlap = None, _LEAST_OVERLAP
    for hollow in (False, True) if side >= _HOLLOW_FROM else (False,):
        for shape in CONTAINERS if hollow else SHAPES:
            for size in np.arange(side - 1, side + 2.5, 0.5):
                for dx, dy in ((x, y) for x in (-0.5, 0.0, 0.5) for y in (-0.5, 0.0, 0.5)):
                    thing = Thing(shape, colour, float(cx + dx), float(cy + dy), float(size), hollow)
                    covered = _covered(thing, shown.shape[0])
                    both = np.minimum(shown, covered).sum() / np.maximum(shown, covered).sum()
                    if both > overlap:
                        best, overlap = thing, both
    return best


def _covered(thing: Thing, side: int) -> Floats:
    """How much of each pixel a shape covers, [side, side]."""
    # the same shape elsewhere covers the same pixels of its surroundings
    left, top = math.floor(thing.cx), math.floor(thing.cy)
    stamp = _stamp(thing.shape, thing.size, thing.cx - left, thing.cy - top, thing.hollow)
    reach = stamp.shape[0] // 2
    whole = np.zeros((side + 2 * reach, side + 2 * reach))
    whole[top : top + 2 * reach, left : left + 2 * reach] = stamp
    return whole[reach : reach + side, reach : reach + side]


@cache
def _stamp(shape: str, size: float, dx: float, dy: float, hollow: bool) -> Floats:
    """How much a shape whose centre is off the middle by less than a pixel covers of the pixels around it."""
    reach = math.ceil(size / 2) + 1
    places = (np.arange(2 * reach * _SAMPLES) + 0.5) / _SAMPLES - reach
    x, y = np.meshgrid(places - dx, places - dy)
    inside = covers(shape, x / size, y / size)
    if hollow:
        inner, lift = hole(shape, size)
        if inner > 0:
            inside &= ~covers(shape, x / inner, (y - lift) / inner)
    shares: Floats = inside.reshape(2 * reach, _SAMPLES, 2 * reach, _SAMPLES).mean(axis=(1, 3))
    return shares
