"""Parts of datasets: a slice, items by their indices, a sample, two halves."""

from __future__ import annotations

import hashlib
import operator
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload

from discffusion.data.item import MatchItem
from discffusion.data.options import wander, whole
from discffusion.errors import DatasetOptionError

__all__ = ["Parted", "further"]

D = TypeVar("D", bound="Parted")


class Parted(Sequence[MatchItem]):
    """Items of which parts can be taken. A part is as lazy as the whole, and has its name, metrics and notes."""

    @overload
    def __getitem__(self, index: int) -> MatchItem: ...
    @overload
    def __getitem__(self: D, index: slice | Iterable[Any]) -> D: ...
    def __getitem__(self: D, index: Any) -> MatchItem | D:
        """An item; or the part of a slice, of a list or array of indices, or of a mask of all items."""
        if isinstance(index, slice):
            how = {"slice": [index.start, index.stop, index.step]}
            return self._part(range(len(self))[index], how)
        if getattr(index, "ndim", 0) == 0 and hasattr(index, "__index__"):
            return self._item(operator.index(index))
        if isinstance(index, str | bytes | Mapping) or not isinstance(index, Iterable):
            raise TypeError(
                f"an index is {type(index).__name__}; expected a whole number, a slice, or a list of those numbers"
            )
        places = self._places(list(index))
        digest = hashlib.sha256(repr(places).encode()).hexdigest()[:16]
        return self._part(places, {"items": {"n": len(places), "sha256": digest}})

    def sample(self: D, n: int | float, seed: int = 0) -> D:
        """Items drawn by chance, each once, in the order of the draw: a longer sample begins with a shorter one.

        Args:
            n: number of items, or a share of them as a number below 1.
            seed: of the draw.

        Raises:
            DatasetError: there are not so many items.
        """
        order, count = self._drawn(n, seed)
        return self._part(order[:count], {"sample": {"n": count, "seed": seed}})

    def split(self: D, n: int | float, seed: int = 0) -> tuple[D, D]:
        """Two datasets that share no item: ``sample(n, seed)``, and all the others, for choosing and for measuring.

        Args:
            n: number of items of the first, or their share as a number below 1.
            seed: of the draw.

        Raises:
            DatasetError: there are not so many items.
        """
        order, count = self._drawn(n, seed)
        drawn = {"n": count, "seed": seed}
        return self._part(order[:count], {"sample": drawn}), self._part(order[count:], {"without": drawn})

    @abstractmethod
    def _item(self, index: int) -> MatchItem:
        """One item."""

    @abstractmethod
    def _part(self: D, places: Sequence[int], how: Mapping[str, Any]) -> D:
        """The items at these places, which are from 0 on, and how they were taken, as plain data."""

    def _places(self, given: list[Any]) -> list[int]:
        if given and all(type(one).__name__ in ("bool", "bool_") for one in given):
            if len(given) != len(self):
                raise IndexError(f"a mask of {len(given)} for {len(self)} items")
            return [place for place, taken in enumerate(given) if taken]
        everything = range(len(self))
        try:
            return [everything[operator.index(one)] for one in given]
        except IndexError:
            raise IndexError(f"an index is out of range; there are {len(self)} items") from None

    def _drawn(self, n: int | float, seed: int) -> tuple[list[int], int]:
        from discffusion.data.shapes.randomness import (
            generator,  # the drawn scenes are a dataset of parts too
        )

        whole("seed", seed, 0, 2**63 - 1)
        if isinstance(n, float) and 0 < n < 1:
            n = round(n * len(self))
        if isinstance(n, bool) or not hasattr(n, "__index__") or not 0 < operator.index(n) <= len(self):
            raise DatasetOptionError(
                f"n is {n!r}; expected a number of items from 1 to {len(self)}, or a share of them below 1"
            )
        return list(wander(generator("sample", seed), len(self))), operator.index(n)


def further(about: Mapping[str, Any], how: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies a part, of what identifies the whole, which may be a part itself."""
    if not {"slice", "items", "sample", "without"} & set(about):
        return {**about, **how}
    return {**about, "then": [*about.get("then", []), dict(how)]}
