"""How often what has a probability comes true: a reliability diagram."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.plot.figure import COLOURS

__all__ = ["reliability"]

#: square points, of the dot of a bin that holds all pairs
_LARGEST = 400.0


def reliability(
    axes: Any, predicted: NDArray[np.float64], observed: NDArray[np.float64], count: NDArray[np.int64]
) -> None:
    """Bins of probability as dots whose areas are the pairs in them, beside the line of probabilities that are right.

    Args:
        predicted: float64 ``[bins]``, mean probability, 0 to 1.
        observed: float64 ``[bins]``, share of matches, 0 to 1.
        count: int64 ``[bins]``, pairs, above 0.
    """
    axes.plot([0, 100], [0, 100], color="0.6", linestyle="--", label="right")
    axes.plot(100 * predicted, 100 * observed, color=COLOURS[0])
    area = np.maximum(_LARGEST * count / count.sum(), 9.0)  # one pair of thousands is still seen
    axes.scatter(100 * predicted, 100 * observed, area, color=COLOURS[0], label=f"{count.sum()} pairs")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_aspect("equal")
    axes.set_xlabel("mean probability, %")
    axes.set_ylabel("pairs that match, %")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
