"""What a baseline is: anything with ``matrix``; and what those of this package share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from discffusion._arguments import checked_texts
from discffusion.baselines.decoded import DecodedImages
from discffusion.errors import ConfigError
from discffusion.images import is_single

__all__ = ["Baseline", "Matcher", "Pairs"]

Pairs = Iterable[tuple[int, int]]


@runtime_checkable
class Matcher(Protocol):
    """The protocol that a method of one's own implements to be evaluated beside the others.

    ``describe`` may be left out; what it returns (plain data) tells one scorer from another where a run is resumed.
    """

    def matrix(self, images: Any, texts: Any) -> NDArray[np.float64]:
        """The score of every image with every text, ``[n_images, n_texts]``; higher is a better match."""


class Baseline(ABC):
    """Base of the baselines: scores of pairs, from which matrices and rankings are made.

    Attributes:
        name: as :func:`discffusion.baselines.load_baseline` knows it.
    """

    name: str

    @abstractmethod
    def matrix(self, images: Any, texts: Any) -> NDArray[np.float64]:
        """The score of every image with every text, float64 ``[n_images, n_texts]``; higher is a better match.

        Args:
            images: one image or several; see :mod:`discffusion.images`.
            texts: one text or several.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What a score depends on, and where it was computed, as plain data."""

    def rank(
        self, images: Any, text: str | Iterable[str], top_k: int | None = None
    ) -> list[tuple[int, float]]:
        """Images for a text, or texts for an image, best first: ``[(index, score)]``. Ties keep their order."""
        if not isinstance(text, str) and not is_single(images):
            raise ConfigError(
                "rank was given several images and several texts; it takes one of either: use matrix"
            )
        if top_k is not None and (
            isinstance(top_k, bool) or not isinstance(top_k, int | np.integer) or top_k < 1
        ):
            raise ConfigError(f"top_k is {top_k!r}; expected a whole number above 0, or None")
        scores = self.matrix(images, text).ravel()
        order = np.argsort(-scores, kind="stable")[:top_k]
        return [(int(index), float(scores[index])) for index in order]

    def __repr__(self) -> str:
        return f"<baseline {self.name}: {self.describe()['model']}>"


class PairBaseline(Baseline):
    """A baseline whose score of a pair depends on nothing else that is asked for."""

    @abstractmethod
    def _pairs(self, seen: DecodedImages, texts: list[str], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
        """Scores of rows ``(image, text)``: distinct ones, at least one, in rising order."""

    def matrix(self, images: Any, texts: Any) -> NDArray[np.float64]:
        images = [images] if is_single(images) else list(images)
        checked = checked_texts(texts)
        pairs = [(i, j) for i in range(len(images)) for j in range(len(checked))]
        return self.score_pairs(images, checked, pairs).reshape(len(images), len(checked))

    def score_pairs(self, images: Any, texts: Iterable[str], pairs: Pairs) -> NDArray[np.float64]:
        """The scores of some combinations of images and texts, float64 ``[len(pairs)]``.

        Args:
            pairs: indices ``(image, text)``; what comes twice is computed once, so that it gets the very same score.
        """
        images = [images] if is_single(images) else list(images)
        checked = checked_texts(texts)
        wanted = [(int(i), int(j)) for i, j in pairs]
        for i, j in wanted:
            if not (0 <= i < len(images) and 0 <= j < len(checked)):
                raise ConfigError(
                    f"pair ({i}, {j}) names none of {len(images)} images and {len(checked)} texts"
                )
        if not wanted:
            return np.zeros(0)
        distinct = list(dict.fromkeys(checked))
        place = {text: position for position, text in enumerate(distinct)}
        seen = DecodedImages(images)
        rows = np.array([(seen.places[i], place[checked[j]]) for i, j in wanted], dtype=np.int64)
        rows, back = np.unique(rows, axis=0, return_inverse=True)
        return self._pairs(seen, distinct, rows)[back.ravel()]
