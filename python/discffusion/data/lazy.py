"""What every dataset read from files is: rows that were read once, and items made of them when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar, overload

from discffusion.data.item import MatchItem

__all__ = ["Dataset"]

Row = TypeVar("Row")


class Dataset(Sequence[MatchItem], Generic[Row]):
    """A lazy sequence of items: ``len``, an index makes one item, a slice gives a shorter dataset.

    Args:
        name: the name it is registered under.
        rows: what is needed to make an item each: a few strings and numbers, never pixels.
        build: makes the item of a row; images are opened here, if at all.
        metrics: what ``metrics="auto"`` means for it; see :mod:`discffusion.evaluation.metrics`.
        expected: items that the annotations hold, before any were left out for missing images; ``len(rows)`` if None.
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

    @overload
    def __getitem__(self, index: int) -> MatchItem: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset[Row]: ...
    def __getitem__(self, index: int | slice) -> MatchItem | Dataset[Row]:
        if not isinstance(index, slice):
            return self._build(self._rows[index])
        rows = self._rows[index]
        return Dataset(
            self.name,
            rows,
            self._build,
            metrics=self.metrics,
            # what is missing from a part is not known any more: the part is its own whole
            expected=self.expected if len(rows) == len(self._rows) else None,
            missing=self.missing if len(rows) == len(self._rows) else (),
            about={**self.about, "slice": [index.start, index.stop, index.step]},
        )

    def __iter__(self) -> Iterator[MatchItem]:
        return map(self._build, self._rows)

    def __repr__(self) -> str:
        shown = "".join(f", {key}={value!r}" for key, value in self.about.items() if key != "notes")
        gone = f", {self.expected - len(self)} left out" if self.expected != len(self) else ""
        return f"Dataset({self.name!r}{shown}, n={len(self)}{gone})"
