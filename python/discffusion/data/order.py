"""The order in which the candidates of an item are listed where their publisher has not fixed one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["ORDER", "in_drawn_order"]

Candidate = TypeVar("Candidate")

#: the rule, as datasets state it in their ``about``
ORDER = "by sha256 of key and published place"


def in_drawn_order(
    key: str, positives: Sequence[Candidate], negatives: Sequence[Candidate]
) -> tuple[list[Candidate], NDArray[np.bool_]]:
    """Candidates in an order that depends on the item's key alone, and which of them are the positives.

    A publisher that names its fields "true" and "false" leaves the order to the reader. A fixed place for the positive
    would reward a scorer whose ties happen to fall on it; a drawn one does not, and is the same on every machine.

    Returns:
        The candidates, and a bool array of their number.
    """
    candidates = [*positives, *negatives]
    digests = [
        hashlib.sha256(f"{key}\n{place}".encode("utf-8", "surrogatepass")).digest()
        for place in range(len(candidates))
    ]
    order = sorted(range(len(candidates)), key=digests.__getitem__)
    return [candidates[place] for place in order], np.array([place < len(positives) for place in order])
