"""This package, as a user calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from discffusion.scorer import Scorer

if TYPE_CHECKING:
    from discffusion.bench.clock import Clock
    from discffusion.bench.implementations import ModelSpec
    from discffusion.bench.settings import BenchSettings

__all__ = ["Ours"]


class Ours:
    """A :class:`~discffusion.Scorer`; batches are its own choice."""

    def __init__(self, spec: ModelSpec) -> None:
        self.scorer = Scorer(spec.folder, variant=spec.variant, device=spec.device, dtype=spec.dtype)
        self._configured: tuple[dict[str, Any], Scorer] = ({}, self.scorer)

    @property
    def about(self) -> dict[str, Any]:
        return {}

    def prepare(self) -> None:
        pass

    def matrix(
        self, images: Sequence[bytes], texts: Sequence[str], settings: BenchSettings
    ) -> NDArray[np.float64]:
        return self.configured(settings).matrix(
            list(images), list(texts), noise=settings.noise, progress=False
        )

    def configured(self, settings: BenchSettings, **changes: Any) -> Scorer:
        """A scorer on these settings, with some fields of its configuration changed."""
        fields = {**settings.config(), **changes}
        if self._configured[0] != fields:
            self._configured = (fields, self.scorer.with_config("default", **fields))
        return self._configured[1]

    def tune(self, settings: BenchSettings, rows: int, clock: Clock) -> None:
        pass

    def unable(self, pairs: int, settings: BenchSettings) -> str | None:
        return None
