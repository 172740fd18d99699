"""Pictures of how two explanations differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from discffusion.plot.figure import COLOURS, new_figure
from discffusion.plot.overlay import overlay

if TYPE_CHECKING:
    from discffusion.explanation.difference import Difference

__all__ = ["differing"]


def differing(difference: Difference) -> Any:
    """What the words of both add, and where on the image or images."""
    rows = difference.words
    figure = new_figure((9.5, max(3.6, 0.28 * len(rows) + 1.6)))
    pictures, bars = figure.subfigures(1, 2, width_ratios=[1, 1.1])
    if difference.place is None:
        axes = pictures.subplots(2, 1)
        for axis, name, side in zip(axes, "ab", (difference.a, difference.b), strict=True):
            overlay(axis, side.image, None, f"{name}: {side.score:.4g}")
    else:
        axis = pictures.subplots()
        drawn = overlay(
            axis,
            difference.a.image,
            np.ma.filled(difference.place, np.nan),
            "where a adds more (+) or less (−)",
            signed=True,
        )
        pictures.colorbar(drawn, ax=axis, shrink=0.8).ax.tick_params(labelsize=7)
    axes = bars.subplots()
    places = np.arange(len(rows))
    axes.barh(places, [row.difference for row in rows], color=COLOURS[0])
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set_yticks(places, [row.label for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlabel("adds to the score of a more than to that of b", fontsize=8)
    a, b = difference.a, difference.b
    names = [f"a: {a.text}", f"b: {b.text}"] if a.text != b.text else [a.text]
    figure.suptitle("\n".join([*names, f"a − b = {difference.score:+.4g}"]), fontsize=8)
    return figure
