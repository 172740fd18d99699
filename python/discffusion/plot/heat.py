"""Numbers by row and column as a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.plot.overlay import DIVERGING, SEQUENTIAL

__all__ = ["heat"]

#: as many columns get a label each
_LABELS = 16


def heat(
    axes: Any,
    values: NDArray[np.floating[Any]],
    rows: Sequence[str],
    columns: Sequence[str],
    xlabel: str,
    title: str,
    *,
    label: str = "",
) -> None:
    """``values[row, column]`` with a colour bar; what is NaN stays blank. Around zero if there are both signs."""
    finite = values[np.isfinite(values)]
    signed = bool(finite.size) and finite.min() < 0 < finite.max()
    most = float(np.abs(finite).max()) if finite.size else 1.0
    drawn = axes.imshow(
        np.ma.masked_invalid(values),
        aspect="auto",
        cmap=DIVERGING if signed else SEQUENTIAL,
        **({"vmin": -most, "vmax": most} if signed else {}),
    )
    axes.set_yticks(range(len(rows)), rows, fontsize=7)
    every = -(-len(columns) // _LABELS)
    axes.set_xticks(range(0, len(columns), every), columns[::every], fontsize=7)
    if any(len(name) > 2 for name in columns):
        axes.tick_params(axis="x", rotation=90)
    axes.set_xlabel(xlabel, fontsize=8)
    axes.set_title(title, fontsize=8)
    bar = axes.get_figure().colorbar(drawn, ax=axes)
    bar.ax.tick_params(labelsize=7)
    if label:
        bar.set_label(label, fontsize=7)
