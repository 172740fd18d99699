"""Drawn scenes in the place of the paper's datasets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from discffusion.data import load_dataset
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.reproduce.scale import Scale

__all__ = ["Shapes", "captions_of", "painted_over"]


class Shapes:
    """The stand-in: drawn scenes. No scene is in two of its splits, so none that is tested was trained on."""

    name = "shapes"
    #: by place, the subset; None mixes subject, object, attribute and predicate in turn
    SUBSETS: ClassVar[dict[str, str | None]] = {"composition": None, "checklist": None, "captions": None}
    TEST_SEED = 40
    #: what it stands for
    STANDS: ClassVar[dict[str, str]] = {
        "composition": "ComVG (with a fourth kind, attributes; two images and two texts an item, not one text)",
        "referring": "RefCOCOg",
        "vqa": "VQAv2 (5 to 9 candidate answers a question, not graded by people)",
        "winoground": "Winoground",
        "checklist": "VL-CheckList (object: subjects and objects; relation: predicates)",
        "captions": "MS-COCO",
    }

    def __init__(self, place: str, scale: Scale, size: int) -> None:
        self.place, self._scale, self._size = place, scale, size

    def _load(self, split: str, n: int, seed: int) -> Dataset[Any]:
        subset = self.SUBSETS.get(self.place, self.place)
        items: Dataset[Any] = load_dataset(
            "shapes", split=split, subset=subset, n=n, seed=seed, image_size=self._size
        )
        return items

    def test(self) -> Dataset[Any]:
        # VL-CheckList's place is taken by the same items as ComVG's, read image by image
        mixed = self.SUBSETS.get(self.place, self.place) is None
        n = 4 * self._scale.items["composition"] if mixed else self._scale.items[self.place]
        return self._load("test", n, self.TEST_SEED)

    def masked(self, both: bool) -> Dataset[Any]:
        items = self.test()

        def build(index: int) -> MatchItem:
            item = items[index]
            boxes = (item.meta or {})["boxes"]
            images = [
                painted_over(image, [box[1:] for box in (of if both else of[:1])])
                for image, of in zip(item.images, boxes, strict=True)
            ]
            return replace(item, images=images)

        about = {**items.about, "mask": "both things" if both else "subject"}
        return Dataset("shapes", range(len(items)), build, metrics=items.metrics, about=about)

    def train(self, recipe: str, seed: int) -> Dataset[Any]:
        if recipe == "captions":
            return captions_of(self._load("train", self._scale.shots["captions"] // 2, 5000 + seed))
        n = self._scale.shots[recipe]
        # ten texts an item are as many pairs as two and a half items of two images and two texts
        mixed = self.SUBSETS.get(self.place, self.place) is None
        return self._load("train", n if mixed else max(1, round(n / 3)), 1000 + seed)

    def notes(self) -> list[str]:
        return [f"drawn scenes (shapes) stand for {self.STANDS[self.place]}"]

    def remarks(self) -> list[str]:
        return []


def captions_of(items: Dataset[Any]) -> Dataset[Any]:
    """Every image with its own caption alone, as in pre-training, of items of two images each."""

    def build(row: int) -> MatchItem:
        item, image = items[row // 2], row % 2
        text = item.texts[int(item.match[image].argmax())]
        return MatchItem(f"{item.key}/{image}", [item.images[image]], [text], np.ones((1, 1), bool))

    return Dataset("shapes", range(2 * len(items)), build, about={**items.about, "captions": True})


def painted_over(image: Any, boxes: Iterable[Sequence[float]]) -> Any:
    """A PIL image with boxes (x, y, width, height in pixels) filled with the mean colour of the whole."""
    import PIL.Image

    values = np.array(image)
    mean = np.rint(values.mean(axis=(0, 1))).astype(np.uint8)
    for x, y, width, height in boxes:
        rows = slice(max(math.floor(y), 0), math.ceil(y + height))
        values[rows, max(math.floor(x), 0) : math.ceil(x + width)] = mean
    return PIL.Image.fromarray(values)
