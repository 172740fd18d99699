"""How numbers are distributed: what training added to the weights (Figure 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.plot.figure import COLOURS

__all__ = ["histogram", "shares"]


def histogram(axes: Any, of: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]) -> None:
    """Counts and the edges of their intervals, by name; filled if it is one."""
    for colour, (name, (counts, edges)) in zip(COLOURS, of.items(), strict=False):
        axes.stairs(counts, edges, color=colour, fill=len(of) == 1, label=name)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("number added to a weight")
    axes.set_ylabel("how many")
    if any(of):
        axes.legend()


def shares(axes: Any, of: Mapping[str, float], xlabel: str) -> None:
    """A bar in percent for each name."""
    axes.barh(range(len(of)), [100 * share for share in of.values()], color=COLOURS[0])
    axes.set_yticks(range(len(of)), list(of))
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel(xlabel)
