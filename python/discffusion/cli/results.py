"""What commands print: JSON that can be repeated and read anywhere, and warnings of one line."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from discffusion.errors import DiscffusionError

__all__ = ["FORMAT", "about", "as_json", "cells", "image_digests", "values", "warn", "warn_of_files"]

#: Raised when a name in the printed JSON goes away or means something else.
FORMAT = 1

_PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif", ".heic", ".jp2")


def as_json(value: Any, indent: int | None = 2) -> str:
    """`value` as JSON, which knows no NaN and no infinity.

    Raises:
        DiscffusionError: it holds one; says where.
    """
    for place, number in _numbers(value, ""):
        if not math.isfinite(number):
            raise DiscffusionError(
                f"the result holds {number} at {place or 'its top'}, which JSON cannot say; in float16, try --dtype "
                "float32 or bfloat16"
            )
    return json.dumps(value, indent=indent, allow_nan=False)


def _numbers(value: Any, place: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield place, value
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _numbers(entry, f"{place}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for number, entry in enumerate(value):
            yield from _numbers(entry, f"{place}[{number}]")


def about(scorer: Any, revision: str | None, images: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a result needs beside it to be repeated: all that the scorer says of itself, and the images' digests.

    Args:
        revision: what was asked for; the scorer's own word counts where it has one.
        images: sha256 by name.
    """
    from discffusion._identity import header

    more: dict[str, Any] = {} if images is None else {"images": dict(images)}
    if scorer.has_probability:  # also where it leaves the score as it is, and a description is silent on it
        more["calibration"] = scorer.calibration.digest
    return {**header(FORMAT, scorer.describe(), revision), **more}


def values(scorer: Any, scores: Sequence[float]) -> list[dict[str, float]]:
    """Each score with its name, and the probability of a match if the scorer has a calibration of its scores."""
    if not scorer.has_probability:
        return [{"score": score} for score in scores]
    matching = scorer.calibration.probability(scores).tolist()
    return [{"score": score, "probability": p} for score, p in zip(scores, matching, strict=True)]


def cells(values: Mapping[str, float]) -> list[str]:
    """What :func:`values` gave of a score, as it is printed."""
    return [f"{value:.4f}" if name == "probability" else f"{value:.6g}" for name, value in values.items()]


def image_digests(images: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """The sha256 of files or of their bytes, by the names they were given by."""
    return {
        name: hashlib.sha256(image if isinstance(image, bytes) else Path(image).read_bytes()).hexdigest()
        for name, image in images
    }


def warn(message: str) -> None:
    """A line on stderr."""
    print(f"discffusion: warning: {' '.join(message.split())}", file=sys.stderr)


def warn_of_files(texts: Iterable[str]) -> None:
    """Says which texts are probably meant to be images, as ``b.png`` in ``score a.png b.png "a dog"``."""
    for text in texts:
        if text.lower().endswith(_PICTURES) or _exists(text):
            warn(f"{text!r} is scored as a text, not as the file of that name; rank takes several images")


def _exists(text: str) -> bool:
    try:
        return bool(text) and Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero byte
        return False
