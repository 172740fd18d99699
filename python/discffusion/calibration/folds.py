"""Parts of image groups for cross-validation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FOLDS", "Split", "parts", "splits"]

#: parts that a set of groups is divided into
FOLDS = 5
#: groups judged at least, over all divisions of few groups: one of them says little
_JUDGED = 60
_MOST_DIVISIONS = 3


@dataclass(frozen=True, eq=False)
class Split:
    """Comparisons to fit to, bool ``[c]``, and those to judge by, int: their places among all ``c``."""

    rows: NDArray[np.bool_]
    held: NDArray[np.intp]


def parts(
    groups: NDArray[np.int64], seed: tuple[int, ...], folds: int = FOLDS
) -> Iterator[NDArray[np.bool_]]:
    """Which rows each part holds out, bool ``[n]``: every row once; rows of a group together.

    Args:
        groups: image group of each row.
        seed: of the order in which groups are dealt out.
        folds: parts, or as many as there are groups if those are fewer.
    """
    names, place = np.unique(groups, return_inverse=True)
    folds = min(folds, len(names))
    part = (np.random.default_rng(seed).permutation(len(names)) % folds)[place.reshape(-1)]
    for number in range(folds):
        yield part == number


def splits(groups: NDArray[np.int64], rows: NDArray[np.bool_], seed: tuple[int, ...]) -> list[list[Split]]:
    """Divisions of some comparisons, each of which holds every one of them out once.

    Args:
        groups: image group of each comparison, int ``[c]``.
        rows: bool ``[c]``, the comparisons that are divided; the others are in no split.
        seed: of the divisions.
    """
    inside = np.flatnonzero(rows)
    names = len(np.unique(groups[inside]))
    divided = []
    for number in range(int(np.clip(-(-_JUDGED // names), 1, _MOST_DIVISIONS))):
        division = []
        for part in parts(groups[inside], (*seed, number)):
            train = rows.copy()
            train[inside[part]] = False
            division.append(Split(train, inside[part]))
        divided.append(division)
    return divided
