"""An image with a box, or everything but the box, painted over in one colour."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from discffusion.errors import DatasetError, ImageError

if TYPE_CHECKING:
    import PIL.Image

__all__ = ["FILLS", "PARTS", "masked"]

#: what may be painted over: the box, or all that is outside it
PARTS = ("object", "rest")
#: with which colour: the mean of the whole image, or the middle grey (128, 128, 128)
FILLS = ("mean", "grey")


def masked(
    path: Path, box: tuple[float, ...], size: tuple[int, int], part: str, fill: str, where: str
) -> PIL.Image.Image:
    """The image (RGB, its own size) with a part of it painted over.

    Args:
        box: x, y, width and height in pixels; every pixel that the box touches belongs to it.
        size: width and height that the box refers to.
        part: one of :data:`PARTS`.
        fill: one of :data:`FILLS`.
        where: file and record, for messages.

    Raises:
        ImageError: the file is no image.
        DatasetError: the image is of another size, so the box belongs to another image.
    """
    import PIL.Image

    try:
        with PIL.Image.open(path) as opened:
            values = np.array(opened.convert("RGB"))
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ImageError(f"{path} cannot be read as an image: {error}") from error
    if values.shape[1::-1] != size:
        actual, said = (f"{width} x {height}" for width, height in (values.shape[1::-1], size))
        raise DatasetError(f"{where}: {path} has {actual} pixels, its box was drawn for {said}")
    mean = np.rint(values.mean(axis=(0, 1))).astype(np.uint8)
    colour = mean if fill == "mean" else np.full(3, 128, dtype=np.uint8)
    x, y, width, height = box
    rows = slice(max(math.floor(y), 0), math.ceil(y + height))
    columns = slice(max(math.floor(x), 0), math.ceil(x + width))
    if part == "object":
        values[rows, columns] = colour
    else:
        kept = values[rows, columns].copy()
        values[:] = colour
        values[rows, columns] = kept
    return PIL.Image.fromarray(values)
