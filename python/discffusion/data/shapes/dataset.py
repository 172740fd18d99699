"""The dataset: items by index, each drawn from (split, subset, seed, index) alone."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from discffusion.data.item import MatchItem
from discffusion.data.parts import Parted, further
from discffusion.data.shapes.captions import caption
from discffusion.data.shapes.changes import CHANGES
from discffusion.data.shapes.choices import Choice, referring, vqa
from discffusion.data.shapes.mixed import mixed
from discffusion.data.shapes.randomness import generator
from discffusion.data.shapes.render import render
from discffusion.data.shapes.sampling import split_of
from discffusion.data.shapes.scene import Scene
from discffusion.data.shapes.vocabulary import CANVAS
from discffusion.errors import DatasetOptionError

SPLITS: tuple[str, ...] = ("train", "eval", "test")
#: what ``subset=None`` mixes, in turn
MAIN: tuple[str, ...] = ("subject", "object", "attribute", "predicate")
SUBSETS: tuple[str, ...] = (*MAIN, "winoground", "referring", "vqa", "mixed")
#: subset -> draws an image with several texts
CHOICES: dict[str, Callable[[random.Random], Choice]] = {"referring": referring, "vqa": vqa, "mixed": mixed}
_METRICS: dict[str | None, tuple[str, ...]] = {
    "winoground": ("accuracy", "winoground"),
    "referring": ("accuracy", "acc@1", "acc@5"),
    "vqa": ("accuracy", "acc@1", "acc@5"),
    "mixed": ("accuracy", "acc@1", "kinds"),
}


class Shapes(Parted):
    """Lazily drawn items; indexing draws one, a slice or a list of indices gives a shorter dataset."""

    name = "shapes"
    missing: tuple[str, ...]

    def __init__(
        self,
        split: str,
        subset: str | None,
        seed: int,
        indices: Sequence[int],
        image_size: int = CANVAS,
        taken: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._split, self.subset, self.seed = split, subset, seed
        self.image_size = image_size
        self._indices, self._taken = indices, dict(taken)
        self.expected, self.missing = len(indices), ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """What ``metrics="auto"`` means, see :mod:`discffusion.evaluation.metrics`."""
        return _METRICS.get(self.subset, ("accuracy",))

    @property
    def about(self) -> dict[str, Any]:
        """What identifies the items, plain data."""
        return {
            "split": self._split,
            "subset": self.subset,
            "seed": self.seed,
            "image_size": self.image_size,
            "indices": _plain_indices(self._indices),
            **self._taken,
        }

    def __len__(self) -> int:
        return len(self._indices)

    def _item(self, index: int) -> MatchItem:
        return self._draw(self._indices[index])

    def _part(self, places: Sequence[int], how: Mapping[str, Any]) -> Shapes:
        if isinstance(places, range) and isinstance(self._indices, range):
            indices: Sequence[int] = self._indices[slice(*how["slice"])]
            taken = self._taken
        else:
            indices, taken = [self._indices[place] for place in places], further(self._taken, how)
        return Shapes(self._split, self.subset, self.seed, indices, self.image_size, taken)

    def __iter__(self) -> Iterator[MatchItem]:
        return map(self._draw, self._indices)

    def __repr__(self) -> str:
        return f"Shapes(split={self._split!r}, subset={self.subset!r}, seed={self.seed}, n={len(self)})"

    def _draw(self, index: int) -> MatchItem:
        subset = self.subset or MAIN[index % len(MAIN)]
        rng = generator("shapes", self._split, subset, self.seed, index)
        key = f"shapes/{self._split}/{subset}/{self.seed}/{index}"
        kinds: tuple[str, ...] = ()
        if subset in CHANGES:
            scenes, changed = _draw_pair(rng, subset, self._split)
            texts = [caption(scene) for scene in scenes]
            match = np.eye(2, dtype=bool)
        else:
            scene, texts, of_texts, kinds = _draw_choice(rng, subset, self._split)
            scenes, changed = [scene], None
            match = np.array([of_texts])
        scale = self.image_size / CANVAS
        meta: dict[str, Any] = {
            "subset": subset,
            "images": [f"{key}/{place}" for place in range(len(scenes))],
            "changed": changed,
            "captions": [caption(scene) for scene in scenes],
            "relations": [scene.relation for scene in scenes],
            "boxes": [[(thing.name, *thing.box(scale)) for thing in scene.things] for scene in scenes],
        }
        if kinds:
            meta["kinds"] = kinds
        images = [render(scene, self.image_size) for scene in scenes]
        return MatchItem(key=key, images=images, texts=texts, match=match, group=subset, meta=meta)


def _plain_indices(indices: Sequence[int]) -> Any:
    if isinstance(indices, range):
        return [indices.start, indices.stop, indices.step]
    return hashlib.sha256(repr(list(indices)).encode()).hexdigest()[:16]


def _draw_pair(rng: random.Random, subset: str, split: str) -> tuple[list[Scene], str]:
    """A scene and its hard negative, both of the split."""
    while True:
        pair = CHANGES[subset](rng)
        if pair is None or not (pair[0].possible() and pair[1].possible()):
            continue
        scenes = [pair[0].scene(), pair[1].scene()]
        if all(split_of(scene) == split for scene in scenes):
            return scenes, pair[2]


def _draw_choice(rng: random.Random, subset: str, split: str) -> Choice:
    """One image of the split with several texts."""
    while True:
        choice = CHOICES[subset](rng)
        if split_of(choice.scene) == split:
            return choice


def load(
    root: Any = None,
    split: str = "test",
    subset: str | None = None,
    n: int = 1000,
    seed: int = 0,
    image_size: int = CANVAS,
) -> Shapes:
    """The dataset ``shapes``: ``n`` items of a split and subset (None: the four main subsets in turn).

    Args:
        root: not used, nothing is read from disk.
        split: ``"train"``, ``"eval"`` or ``"test"``; no two of them share a scene.
        subset: one of :data:`SUBSETS`, or None. ``"mixed"`` has texts of any length beside the caption, also empty
            ones, and the kind of each in ``meta["kinds"]``, see :mod:`discffusion.data.shapes.mixed`.
        n: number of items.
        seed: item ``i`` depends on (split, subset, seed, i) alone.
        image_size: side of the square images in pixels.
    """
    if split not in SPLITS:
        raise DatasetOptionError(f"shapes has no split {split!r}; there are: {', '.join(SPLITS)}")
    if subset is not None and subset not in SUBSETS:
        raise DatasetOptionError(f"shapes has no subset {subset!r}; there are: {', '.join(SUBSETS)}")
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise DatasetOptionError(f"n is {n!r}; it must be a whole number, zero or more")
    if isinstance(image_size, bool) or not isinstance(image_size, int) or not 8 <= image_size <= 4096:
        raise DatasetOptionError(f"image_size is {image_size!r}; it must be a whole number from 8 to 4096")
    return Shapes(split, subset, seed, range(n), image_size)
