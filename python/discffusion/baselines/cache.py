"""What was computed of an image or a text alone, kept for requests that come after."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

__all__ = ["EmbeddingCache"]


class EmbeddingCache:
    """Embeddings by what they are of.

    An embedding depends on nothing else, so none is computed twice while it is kept; what was computed beside it in a
    batch changes it by rounding alone.

    Args:
        most: bytes that are kept. The latest request goes before older ones; of one that is larger, the first are kept,
            so that a request that comes again finds them.
    """

    def __init__(self, most: int = 1 << 28) -> None:
        self._most = most
        self._rows: dict[Hashable, Any] = {}

    def rows(self, keys: Sequence[Hashable], make: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
        """An array or tensor for each key.

        Args:
            keys: what identifies each; may hold one several times.
            make: from places in `keys` to what is new there, one each.
        """
        kept = self._rows  # another thread may replace it
        first: dict[Hashable, int] = {}
        for place, key in enumerate(keys):
            first.setdefault(key, place)
        new = [place for key, place in first.items() if key not in kept]
        if not new:
            return [kept[key] for key in keys]
        made = dict(zip((keys[place] for place in new), make(new), strict=True))
        by_key = {key: made[key] if key in made else kept[key] for key in first}
        self._rows = self._within({**by_key, **{key: row for key, row in kept.items() if key not in by_key}})
        return [by_key[key] for key in keys]

    def forget(self) -> None:
        """Drops all, because the model is another from now on."""
        self._rows = {}

    def _within(self, rows: dict[Hashable, Any]) -> dict[Hashable, Any]:
        left, kept = self._most, {}
        for key, row in rows.items():
            left -= row.nbytes
            if left < 0:
                break
            kept[key] = row
        return kept
