"""A map over an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["overlay"]

#: even in lightness and safe for the colour-blind
SEQUENTIAL = "viridis"
#: the same around zero
DIVERGING = "PuOr_r"


def overlay(
    axes: Any,
    image: NDArray[np.uint8],
    values: NDArray[np.floating[Any]] | None,
    title: str = "",
    *,
    limits: tuple[float, float] | None = None,
    signed: bool = False,
    alpha: float = 0.6,
) -> Any:
    """The image in grey with a map over it, or the image alone in its colours.

    Args:
        values: ``[H, W]`` of the image's size; nothing is drawn where they are NaN.
        limits: values of the darkest and the brightest colour; the lowest and highest where None.
        signed: colours around zero.

    Returns:
        What a colour bar is made for; None without a map.
    """
    drawn = None
    if values is None:
        axes.imshow(image)
    else:
        grey = image.mean(axis=2)
        axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
        if signed:
            most = float(np.nanmax(np.abs(values))) or 1.0
            limits = limits or (-most, most)
        low, high = limits or (None, None)
        drawn = axes.imshow(
            np.ma.masked_invalid(values),
            cmap=DIVERGING if signed else SEQUENTIAL,
            vmin=low,
            vmax=high,
            alpha=alpha,
        )
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=8)
    return drawn
