"""What every dataset read from files is: rows that were read once, and items made of them when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from discffusion.data.item import MatchItem
from discffusion.data.parts import Parted, further

__all__ = ["Dataset"]

Row = TypeVar("Row")


class Dataset(Parted, Generic[Row]):
    """A lazy sequence of items: ``len``, an index makes one item, a slice or a list of indices gives a shorter dataset.

    ``sample(n, seed)`` draws some of the items, ``split(n, seed)`` makes two datasets of them.

    Args:
        name: the name it is registered under.
        rows: what is needed to make an item each: a few strings and numbers, never pixels.
        build: makes the item of a row; images are opened here, if at all.
        metrics: what ``metrics="auto"`` means for it; see :mod:`discffusion.evaluation.metrics`.
        expected: items that the annotations hold, before any that lack images or texts were left out; ``len(rows)`` if
            None.
        missing: references of images that were not found, where that was allowed.
        about: plain data that identifies it, with no path of this machine: split, subset, options, notes.
    """

    def __init__(
        self,
        name: str,
        rows: Sequence[Row],
        build: Callable[[Row], MatchItem],
        *,
        metrics: Sequence[str] = ("accuracy",),
        expected: int | None = None,
        missing: Sequence[str] = (),
        about: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.metrics = tuple(metrics)
        self.expected = len(rows) if expected is None else expected
        self.missing = tuple(missing)
        self.about = dict(about)
        self._rows, self._build = rows, build

    def __len__(self) -> int:
        return len(self._rows)

    def _item(self, index: int) -> MatchItem:
        return self._build(self._rows[index])

    def _part(self, places: Sequence[int], how: Mapping[str, Any]) -> Dataset[Row]:
        everything = len(places) == len(self._rows)
        return Dataset(
            self.name,
            [self._rows[place] for place in places],
            self._build,
            metrics=self.metrics,
            # what is missing from a part is not known any more: the part is its own whole
            expected=self.expected if everything else None,
            missing=self.missing if everything else (),
            about=further(self.about, how),
        )

    def __iter__(self) -> Iterator[MatchItem]:
        return map(self._build, self._rows)

    def __repr__(self) -> str:
        shown = "".join(f", {key}={value!r}" for key, value in self.about.items() if key != "notes")
        gone = f", {self.expected - len(self)} left out" if self.expected != len(self) else ""
        return f"Dataset({self.name!r}{shown}, n={len(self)}{gone})"
