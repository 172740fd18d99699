"""Retrieval by embeddings (appendix E of the paper): the cosine of an image's and a text's vector."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion._arguments import checked_texts
from discffusion.baselines.cache import EmbeddingCache
from discffusion.images import is_single
from discffusion.scorer import Scorer

__all__ = ["Embeddings"]


class Embeddings:
    """The vectors of :meth:`Scorer.embed_images` and :meth:`Scorer.embed_texts` as scores, for ``evaluate``.

    Each text is read once: its vector is kept for later calls.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self._texts = EmbeddingCache()

    def matrix(self, images: Any, texts: Any) -> NDArray[np.float64]:
        """Cosines, float64 ``[n_images, n_texts]``."""
        images = [images] if is_single(images) else list(images)
        checked = checked_texts(texts)
        if not images or not checked:
            return np.zeros((len(images), len(checked)))

        def make(places: list[int]) -> list[NDArray[np.float32]]:
            vectors = self.scorer.embed_texts([checked[place] for place in places], progress=False)
            return [row.copy() for row in vectors]  # none holds its whole batch

        read = np.stack(self._texts.rows(checked, make)).astype(np.float64)
        cosines: NDArray[np.float64] = self.scorer.embed_images(images).astype(np.float64) @ read.T
        return cosines

    def count_tokens(self, texts: Any) -> list[tuple[int, bool]]:
        """For every text its tokens, and whether the model reads fewer; see :meth:`Scorer.count_tokens`."""
        return self.scorer.count_tokens(texts)

    def describe(self) -> dict[str, Any]:
        """What a score depends on, as :meth:`Scorer.describe` says it."""
        return {"method": "embeddings", **self.scorer.describe()}
