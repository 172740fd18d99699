"""Options that several datasets share, checked, and the draws that they store by seed alone."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from discffusion.errors import DatasetError, DatasetOptionError

__all__ = ["chosen", "image_folder", "leading", "wander", "whole"]

Row = TypeVar("Row")


def chosen(name: str, what: str, given: Any, choices: Iterable[str]) -> str:
    """`given`, which has to be one of `known`.

    Args:
        name: of the dataset, for the message.
        what: the option's name, as ``"split"``.
    """
    there = list(choices)
    if not isinstance(given, str) or given not in there:
        listed = ", ".join(there) or "none"
        raise DatasetOptionError(f"{name} has no {what} {given!r}; there are: {listed}")
    return given


def whole(what: str, given: Any, low: int, high: int) -> int:
    """`given`, which has to be a whole number from `low` to `high`."""
    if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
        raise DatasetOptionError(f"{what} is {given!r}; it must be a whole number from {low} to {high}")
    return given


def leading(name: str, rows: Sequence[Row], share: float | None) -> Sequence[Row]:
    """The first ``int(share * len(rows))`` rows; all of them where `share` is None."""
    if share is None:
        return rows
    number = isinstance(share, int | float) and not isinstance(share, bool)
    if not number or not math.isfinite(share) or not 0 < share <= 1:
        raise DatasetOptionError(f"fraction is {share!r}; it must be a number above 0 and at most 1, as 0.05")
    count = int(share * len(rows))
    if count == 0:
        raise DatasetOptionError(f"{name}: fraction={share!r} of {len(rows)} items is less than one item")
    return rows[:count]


def image_folder(root: Path, given: Any, name: str) -> Path:
    """The folder that image references are relative to: `given`, or `root` where that is None."""
    if given is None:
        return root
    try:
        path = Path(given).expanduser()
    except (TypeError, RuntimeError) as error:
        raise DatasetOptionError(f"{name}: image_root is {given!r}; expected a folder ({error})") from None
    if not path.is_dir():
        raise DatasetError(f"{name}: image_root, {path}, is not a folder")
    return path


def wander(rng: random.Random, count: int) -> Iterator[int]:
    """The numbers below `count` in a random order, each once; what is not asked for costs nothing."""
    moved: dict[int, int] = {}
    for place in range(count):
        # a Fisher-Yates shuffle that remembers only the places it has touched
        other = place + int(rng.random() * (count - place))
        yield moved.get(other, other)
        moved[other] = moved.pop(place, place)
