"""Figures without a window and without state that other plots share, and PNG files of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from discffusion._extras import need
from discffusion._files import write_bytes

__all__ = ["COLOURS", "axes_or_new", "new_figure", "png", "save_png"]

#: colour-blind safe, in order
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
#: dots an inch
DPI = 150


def new_figure(size: tuple[float, float] = (6.0, 4.0)) -> Any:
    """An empty matplotlib Figure of so many inches, which shows itself in notebooks.

    Raises:
        InstallationError: matplotlib is not installed.
    """
    figure = need("matplotlib.figure", "plot").Figure(figsize=size, layout="constrained", dpi=DPI)
    figure._repr_png_ = partial(png, figure)
    return figure


def axes_or_new(ax: Any, size: tuple[float, float] = (6.0, 4.0)) -> Any:
    """`ax`, or the Axes of a new figure of pyplot's if it is None, which notebooks show by themselves."""
    if ax is not None:
        return ax
    return need("matplotlib.pyplot", "plot").subplots(figsize=size, layout="constrained")[1]


def png(figure: Any) -> bytes:
    """The plot as the bytes of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def save_png(path: Path, draw: Callable[[Any], None], size: tuple[float, float] = (6.0, 4.0)) -> Path:
    """Writes what `draw` puts on a Figure to a PNG file, whole or not at all.

    Raises:
        InstallationError: matplotlib is not installed.
    """
    figure = new_figure(size)
    draw(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, png(figure))
    return path
