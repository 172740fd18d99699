"""This package, as a user calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from discffusion.scorer import Scorer

if TYPE_CHECKING:
    from discffusion.bench.clock import Clock
    from discffusion.bench.sides import Place
    from discffusion.bench.workloads import Terms

__all__ = ["Ours"]


class Ours:
    """A :class:`~discffusion.Scorer`; batches are its own choice."""

    def __init__(self, place: Place) -> None:
        self.scorer = Scorer(place.folder, variant=place.variant, device=place.device, dtype=place.dtype)
        self._configured: tuple[dict[str, Any], Scorer] = ({}, self.scorer)

    @property
    def about(self) -> dict[str, Any]:
        return {}

    def prepare(self) -> None:
        pass

    def matrix(self, images: Sequence[bytes], texts: Sequence[str], terms: Terms) -> NDArray[np.float64]:
        return self.configured(terms).matrix(list(images), list(texts), noise=terms.noise, progress=False)

    def configured(self, terms: Terms, **changes: Any) -> Scorer:
        """A scorer on these terms, with some fields of its configuration changed."""
        fields = {**terms.config(), **changes}
        if self._configured[0] != fields:
            self._configured = (fields, self.scorer.with_config("default", **fields))
        return self._configured[1]

    def tune(self, terms: Terms, rows: int, clock: Clock) -> None:
        pass

    def unable(self, pairs: int, terms: Terms) -> str | None:
        return None
