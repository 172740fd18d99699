"""Maps on the grid of a layer, brought to the image."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["DEFAULT_NORMALISE", "Normalise", "filled", "on_grid", "on_image", "seen_part", "unit_scaled"]

Normalise = Literal["unit", "contrast"]
#: how maps are drawn unless the caller says: what pointed best (tests/benchmarks/pointing.py)
DEFAULT_NORMALISE: Normalise = "contrast"


def on_grid(maps: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Maps ``[…, h, w]`` on a grid of `side` × `side`, by linear interpolation between the middles of places."""
    if maps.shape[-2:] == (side, side):
        return maps
    edge = (0.0, float(side))
    return _resized(maps, _linear(side, maps.shape[-2], edge), _linear(side, maps.shape[-1], edge))


def on_image(
    maps: NDArray[np.float32], size: tuple[int, int], view: tuple[float, float, float, float]
) -> NDArray[np.float32]:
    """Maps ``[…, h, w]`` on an image of `size` (height, width), ``[…, height, width]``.

    Args:
        view: what the model saw: left, top, right and bottom edge in pixels of that image. Elsewhere the maps are NaN.
    """
    left, top, right, bottom = view
    rows = _linear(size[0], maps.shape[-2], (top, bottom))
    columns = _linear(size[1], maps.shape[-1], (left, right))
    return _resized(maps, rows, columns)


def seen_part(view: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the pixels whose middles lie in `view`."""
    left, top, right, bottom = view
    inside = [
        np.flatnonzero((np.arange(count) + 0.5 >= low) & (np.arange(count) + 0.5 <= high))
        for count, low, high in ((size[0], top, bottom), (size[1], left, right))
    ]
    rows, columns = (slice(int(of[0]), int(of[-1]) + 1) if of.size else slice(0, 0) for of in inside)
    return rows, columns


def filled(maps: NDArray[np.float32], fill: float | None) -> NDArray[np.float32]:
    """Maps with `fill`, or for None with numpy's mask, in place of NaN; as they are where there is none."""
    unseen = np.isnan(maps)
    if not unseen.any():
        return maps
    if fill is None:
        return np.ma.MaskedArray(maps, unseen)
    plain: NDArray[np.float32] = np.where(unseen, np.float32(fill), maps)
    return plain


def _resized(
    maps: NDArray[np.float32], rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    resized: NDArray[np.float32] = rows @ maps.astype(np.float32) @ columns.T
    return resized


def _linear(pixels: int, places: int, edges: tuple[float, float]) -> NDArray[np.float32]:
    """Weights ``[pixels, places]``: what each of `places`, evenly between two edges, counts at a pixel's middle."""
    middle = np.arange(pixels) + 0.5
    at = np.clip((middle - edges[0]) / (edges[1] - edges[0]) * places - 0.5, 0, places - 1)
    low = np.minimum(at.astype(int), max(places - 2, 0))
    weights = np.zeros((pixels, places), dtype=np.float32)
    index = np.arange(pixels)
    weights[index, low] = 1 - (at - low)
    if places > 1:
        weights[index, low + 1] = at - low
    weights[(middle < edges[0]) | (middle > edges[1])] = np.nan
    return weights


def unit_scaled(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each map ``[…, H, W]`` from 0 to 1; zeros where it is the same everywhere."""
    low = np.nanmin(maps, axis=(-2, -1), keepdims=True)
    span = np.nanmax(maps, axis=(-2, -1), keepdims=True) - low
    scaled: NDArray[np.float32] = (maps - low) / np.where(span > 0, span, 1)
    return scaled
