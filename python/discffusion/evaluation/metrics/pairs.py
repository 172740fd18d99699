"""Every matching pair against every other pair of its image and of its text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discffusion.evaluation.record import Record

__all__ = ["Comparisons", "compared"]

#: scores held at a time
_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Comparisons:
    """Comparisons of a matching with a non-matching pair of the same image or text: int ``[n_records]`` each."""

    won: NDArray[np.intp]
    ties: NDArray[np.intp]
    total: NDArray[np.intp]

    @property
    def held(self) -> NDArray[np.intp]:
        """The indices of the records in which something is compared."""
        return np.flatnonzero(self.total)

    def share(self) -> NDArray[np.float64]:
        """The share of comparisons won, of the records in which something is compared; a tie is not won."""
        share: NDArray[np.float64] = self.won[self.held] / self.total[self.held]
        return share


def compared(records: Sequence[Record]) -> Comparisons:
    """What is won, tied and compared in each record."""
    won, ties, total = np.zeros((3, len(records)), np.intp)
    for index, scores, match in _stacks(records):
        for values, right in ((scores, match), (scores.swapaxes(1, 2), match.swapaxes(1, 2))):
            where, row, column = np.nonzero(right)
            at_once = max(1, _AT_ONCE // values.shape[2])
            for start in range(0, len(where), at_once):
                part = slice(start, start + at_once)
                item, of = where[part], row[part]
                own = values[item, of, column[part]][:, None]
                others, rival = values[item, of], ~right[item, of]
                np.add.at(won, index[item], ((own > others) & rival).sum(axis=1))
                np.add.at(ties, index[item], ((own == others) & rival).sum(axis=1))
                np.add.at(total, index[item], rival.sum(axis=1))
    return Comparisons(won, ties, total)


def _stacks(
    records: Sequence[Record],
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_]]]:
    """Records of one shape at a time: their indices ``[n]``, scores and match ``[n, n_images, n_texts]``."""
    shapes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        shapes[record.scores.shape].append(index)
    for (images, texts), indices in shapes.items():
        at_once = max(1, _AT_ONCE // (images * texts))
        for start in range(0, len(indices), at_once):
            part = indices[start : start + at_once]
            scores = np.stack([records[index].scores for index in part])
            yield np.array(part), scores, np.stack([records[index].match for index in part])
