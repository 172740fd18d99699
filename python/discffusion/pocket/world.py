"""What the pocket model knows: the words of its captions and the look of its pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.data.shapes.vocabulary import COLOURS, RELATIONS, SHAPES

__all__ = ["WORDS", "is_drawn", "unknown_words"]

#: every word of the captions and questions that it was trained on
WORDS = frozenset(
    (*SHAPES, *COLOURS, *" ".join(RELATIONS).split(), "a", "and", "the", "what", "colour", "is", "where")
)
# levels of 255: an antialiased edge or the noise of a JPEG may be as far from a plain colour
_NEAR = 70.0
# drawn scenes have 0.65 and 0.63 at least, at 32 pixels and a JPEG's quality of 30; of 21 photographs none has both
_GROUND, _PLAIN = 0.6, 0.6
_PALE = 170


def unknown_words(texts: Iterable[str]) -> list[str]:
    """The words of the texts that are in no caption of the world, each once; marks of punctuation do not count."""
    found = (word for text in texts for word in re.findall(r"[^\W\d_]+|\d", text.lower()))
    return list(dict.fromkeys(word for word in found if word not in WORDS))


def is_drawn(pixels: NDArray[Any]) -> bool:
    """Whether a picture, uint8 ``[H, W, 3]``, may be a scene of the world: its six plain colours on a pale ground."""
    step = max(1, min(pixels.shape[:2]) // 64)
    seen = pixels[::step, ::step].reshape(-1, 3).astype(np.float64)
    pale = seen[seen.min(axis=1) >= _PALE]
    if not len(pale):
        return False
    plain = np.array([np.median(pale, axis=0), *COLOURS.values()])
    distance = np.linalg.norm(seen[:, None] - plain[None], axis=2)
    on_ground, near = distance.argmin(axis=1) == 0, distance.min(axis=1) <= _NEAR
    return bool(on_ground.mean() >= _GROUND and near.mean() >= _PLAIN)
