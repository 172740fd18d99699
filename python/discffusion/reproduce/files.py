"""The paper's own datasets, read from files as their publishers ship them."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from discffusion.data import load_dataset
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.errors import ConfigError
from discffusion.reproduce.scale import Scale
from discffusion.reproduce.split import Cut, cut_by_images

__all__ = ["Files", "chosen", "evenly"]


class Files:
    """A dataset as its publishers ship it."""

    #: share of the items that is trained on, by recipe
    SHARES: ClassVar[Mapping[str, float]] = {"few": 0.05, "extreme": 0.005, "captions": 1.0}
    #: options for training and for testing; where there are none, images are set apart
    OPTIONS: ClassVar[Mapping[str, tuple[dict[str, Any], dict[str, Any]]]] = {
        "refcocog": ({"split": "train"}, {}),
        "vqav2": ({"split": "train"}, {}),
        "vqa_csv": ({"split": "train"}, {}),
        "coco_captions": ({"split": "train2017", "task": "pretraining"}, {}),
    }

    def __init__(
        self, place: str, name: str, root: str | None, scale: Scale, allow_missing: bool = False
    ) -> None:
        if root is None:
            raise ConfigError(f"{name} is read from files: give its folder, as --data {name}=FOLDER")
        self.place, self.name, self._root, self._scale = place, name, root, scale
        self._fixed: dict[str, Any] = {"allow_missing": True} if allow_missing else {}
        self._notes: list[str] = []
        self._opened: dict[str, Dataset[Any]] = {}

    def _open(self, **options: Any) -> Dataset[Any]:
        key = repr(sorted(options.items()))
        if key not in self._opened:
            self._opened[key] = load_dataset(self.name, root=self._root, **self._fixed, **options)
        return self._opened[key]

    @cached_property
    def _cut(self) -> Cut:
        """Rows to train on and to test, for a dataset without a part for training."""
        items = self._open()
        cut = cut_by_images([_references(item) for item in items], self.SHARES["few"])
        self._note(
            f"{self.name}: trained on {len(cut.train)} and measured on {len(cut.test)} of {len(items)} rows; "
            f"{cut.dropped} that share images with both were left out, so no image that is tested was trained on"
        )
        return cut

    @cached_property
    def _rows(self) -> list[int] | None:
        """Of the items to test, those that are; None for all."""
        rows = list(self._cut.test) if self._has_no_part else None
        items, limit = self._open(**self._tested), self._scale.limit
        count = len(items) if rows is None else len(rows)
        if limit is not None and limit < count:
            rows = evenly(items, range(len(items)) if rows is None else rows, limit)
            self._note(f"{self.name}: {limit} of {count} items, evenly over its groups")
        return rows

    @property
    def _has_no_part(self) -> bool:
        return self.name == "comvg"

    @property
    def _tested(self) -> dict[str, Any]:
        return self.OPTIONS.get(self.name, ({}, {}))[1]

    def _test(self, **options: Any) -> Dataset[Any]:
        items, rows = self._open(**self._tested, **options), self._rows
        if rows is None:
            return items
        return chosen(
            items, rows, self.name, part="test, by images" if self._has_no_part else "evenly", n=len(rows)
        )

    def test(self) -> Dataset[Any]:
        return self._test()

    def masked(self, both: bool) -> Dataset[Any]:
        return self._test(mask="object")

    def train(self, recipe: str, seed: int) -> Dataset[Any]:
        share = self.SHARES[recipe]
        if self._has_no_part:
            items, rows = self._open(), list(self._cut.train)
            wanted = max(1, round(share * len(items)))
        else:
            items = self._open(**self.OPTIONS[self.name][0])
            rows = list(range(len(items)))
            wanted = max(1, round(share * len(rows)))
        most = self._scale.most.get(recipe)
        if most is not None and most < min(wanted, len(rows)):
            self._note(
                f"{self.name}: {most} of {wanted} items to train on ({recipe}), at the scale {self._scale.name}"
            )
            wanted = most
        if wanted < len(rows):
            random.Random(f"{self.name} {recipe}").shuffle(rows)
            rows = sorted(rows[:wanted])
        return chosen(items, rows, self.name, part=f"{recipe}, to train on", n=len(rows))

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)

    def notes(self) -> list[str]:
        return list(self._notes)

    def remarks(self) -> list[str]:
        notes = [note for items in self._opened.values() for note in items.about.get("notes") or ()]
        missing = [
            f"{self.name}: {items.expected - len(items)} of {items.expected} items lack "
            f"{'images or texts' if any('lack a text' in note for note in notes) else 'their images'} and were left out"
            for items in self._opened.values()
            if items.missing
        ]
        return [*(f"{self.name}: {note}" for note in dict.fromkeys(notes)), *dict.fromkeys(missing)]


def _references(item: MatchItem) -> list[str]:
    named = (item.meta or {}).get("images")
    return [str(image) for image in (named if named else item.images)]


def evenly(items: Sequence[MatchItem], rows: Sequence[int], limit: int) -> list[int]:
    """`limit` of the rows, as many of each group as there are, spread over the whole."""
    groups: dict[str | None, list[int]] = defaultdict(list)
    for row in rows:
        groups[items[row].group].append(row)
    taken: list[int] = []
    by_size = sorted(groups.values(), key=len)
    for place, group in enumerate(by_size):
        share = min(len(group), (limit - len(taken)) // (len(by_size) - place))
        taken += [group[k * len(group) // share] for k in range(share)]
    return sorted(taken)


def chosen(items: Dataset[Any], rows: Sequence[int], name: str, **about: Any) -> Dataset[int]:
    """Some items of a dataset, as a dataset that says which they are."""
    which = hashlib.sha256(repr(tuple(rows)).encode()).hexdigest()[:12]
    facts = {**items.about, **about, "rows": which}
    return Dataset(name, tuple(rows), items.__getitem__, metrics=items.metrics, about=facts)
