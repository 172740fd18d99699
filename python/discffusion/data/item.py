"""One matching question: some images, some texts, and which belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from discffusion.errors import DatasetError


@dataclass(frozen=True, eq=False)
class MatchItem:
    """Candidate images and texts with the truth about every pair.

    Attributes:
        key: name of the item, unique within its dataset.
        images: anything a scorer accepts as an image, at least one.
        texts: at least one text.
        match: bool array ``[n_images, n_texts]``; true where the text describes the image.
        group: items that share a group are reported together (a category, a subset), or None.
        meta: whatever else is known (boxes, what was changed, ...), or None.
    """

    key: str
    images: Sequence[Any]
    texts: Sequence[str]
    match: np.ndarray
    group: str | None = None
    meta: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):
            raise DatasetError(f"item {self.key!r}: texts is one string; give a sequence of strings")
        if len(self.images) == 0 or len(self.texts) == 0:
            raise DatasetError(f"item {self.key!r}: needs at least one image and one text")
        wrong = [type(text).__name__ for text in self.texts if not isinstance(text, str)]
        if wrong:
            raise DatasetError(f"item {self.key!r}: texts must be strings, found {wrong[0]}")
        match = np.asarray(self.match)
        expected = (len(self.images), len(self.texts))
        if match.shape != expected:
            raise DatasetError(f"item {self.key!r}: match has shape {match.shape}, expected {expected}")
        if match.dtype != np.bool_:
            if not np.isin(match, (0, 1)).all():
                raise DatasetError(f"item {self.key!r}: match must be bool, found {match.dtype}")
            match = match.astype(np.bool_)
        object.__setattr__(self, "match", match)
