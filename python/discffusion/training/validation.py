"""How well a scorer tells matching pairs from others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from discffusion._processes import SingleProcess, own_range
from discffusion.data.items import Items, comparable
from discffusion.errors import DatasetError, DiscffusionError
from discffusion.training.history import History

if TYPE_CHECKING:
    from discffusion.scorer import Scorer

__all__ = ["compare", "exhausted", "measure"]


def compare(scores: NDArray[np.float64], match: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Every matching pair against every other pair of its image, and of its text, that does not match.

    Returns:
        How many comparisons are won, how many are ties, and how many there are.
    """
    won = ties = total = 0
    for values, right in ((scores, match), (scores.T, match.T)):
        for row, is_match in zip(values, right, strict=True):
            ahead = row[is_match][:, None] - row[~is_match][None, :]
            won += int((ahead > 0).sum())
            ties += int((ahead == 0).sum())
            total += ahead.size
    return won, ties, total


def measure(scorer: Scorer, items: Items, group: SingleProcess) -> dict[str, Any]:
    """The share of comparisons that `scorer` wins; a tie is not won. Each process of `group` scores a part of them."""
    won = ties = total = 0
    for index in own_range(len(items), group):
        item = items[index]
        if not any(comparable(item.match)):
            continue
        try:
            scores = scorer.matrix(list(item.images), list(item.texts), progress=False)
        except DiscffusionError as error:
            raise type(error)(f"validation item {item.key!r}: {error}") from error
        outcome = compare(scores, item.match)
        won, ties, total = won + outcome[0], ties + outcome[1], total + outcome[2]
    won, ties, total = group.sum(np.array([won, ties, total], np.int64)).tolist()
    if total == 0:
        raise DatasetError(
            "validation compares nothing: no item holds a matching pair beside one that does not match"
        )
    return {"accuracy": won / total, "comparisons": total, "ties": ties}


def exhausted(history: History, patience: int | None) -> bool:
    """Whether the last `patience` validations brought nothing better."""
    best = history.best
    if patience is None or best is None:
        return False
    return len([row for row in history.validations if row["step"] > best["step"]]) >= patience
