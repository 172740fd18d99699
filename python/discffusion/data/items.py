"""Items to train on or to validate with, read one at a time."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.data.item import MatchItem
from discffusion.errors import ConfigError, DatasetError

__all__ = ["Items", "comparable"]


class Items:
    """Items by index. What has a length and an index is read when an item is asked for, anything else at once.

    Args:
        given: an iterable of :class:`MatchItem`.
        role: what it is for, as errors name it.

    Raises:
        DatasetError: it is nothing of the kind, or empty.
    """

    def __init__(self, given: Any, role: str) -> None:
        if isinstance(given, str | bytes | Mapping | MatchItem) or not (
            isinstance(given, Iterable) or _is_sequence(given)
        ):
            raise DatasetError(f"{role} is {type(given).__name__}; expected an iterable of MatchItem")
        self._given = given if _is_sequence(given) else list(given)
        self._role = role
        if len(self._given) == 0:
            raise DatasetError(f"{role} holds no items")
        kind: Any = type(given)
        # datasets of this package say what they are; a list of items would fill pages, an address says nothing
        silent = kind.__repr__ in (object.__repr__, list.__repr__, tuple.__repr__)
        self.name = kind.__name__ if silent else repr(given)[:200]

    def __len__(self) -> int:
        return len(self._given)

    def __getitem__(self, index: int) -> MatchItem:
        item = self._given[index]
        if not isinstance(item, MatchItem):
            raise DatasetError(f"item {index} of {self._role} is {type(item).__name__}; expected a MatchItem")
        return item

    def examine(
        self,
        options: Mapping[str, Any] | None = None,
        *,
        alone: bool = True,
        check_texts: Callable[[list[str]], int] | None = None,
    ) -> str:
        """Reads every item once: a digest of keys, texts and matches.

        Args:
            options: training options; with them, an item that training can learn nothing from is an error.
            alone: whether an item is compared with nothing outside it.
            check_texts: refuses texts that cannot be scored, and counts those that draw a warning as they are cut.

        Raises:
            ConfigError: an item has a text that cannot be scored.
            DatasetError: an item has no matching pair, or nothing to compare it with.
        """
        cut = 0
        sha = hashlib.sha256()
        for index in range(len(self)):
            item = self[index]
            if options is not None:
                _check(item, options, alone)
            if check_texts is not None:
                try:
                    cut += check_texts(list(item.texts))
                except ConfigError as error:
                    raise ConfigError(f"item {item.key!r} of {self._role}: {error}") from None
            sha.update(json.dumps([item.key, list(item.texts), item.match.tolist()]).encode() + b"\n")
        if cut:
            warnings.warn(
                f"{cut} text(s) of {self._role} are longer than the model's context length and were truncated; "
                "EOS is kept",
                stacklevel=3,
            )
        return sha.hexdigest()[:32]


def comparable(match: NDArray[np.bool_]) -> tuple[bool, bool]:
    """Whether some matching pair has another image, and another text, that does not match."""
    images = (match.any(axis=0) & ~match.all(axis=0)).any()
    texts = (match.any(axis=1) & ~match.all(axis=1)).any()
    return bool(images), bool(texts)


def _check(item: MatchItem, options: Mapping[str, Any], alone: bool) -> None:
    if not item.match.any():
        raise DatasetError(f"item {item.key!r} has no matching pair; training needs at least one")
    if options["loss"] == "diffusion" or not alone:
        return
    kinds = options["negative_kinds"]
    images, texts = comparable(item.match)
    if not (images and kinds != "text") and not (texts and kinds != "image"):
        wanted = {"image": "image", "text": "text"}.get(kinds, "image or text")
        raise DatasetError(
            f"item {item.key!r} has nothing to compare its matching pairs with: no {wanted} that does not match; "
            "with in_batch=True and a batch_size of 2 or more, the other items of a batch are compared with it"
        )


def _is_sequence(given: Any) -> bool:
    return isinstance(given, Sequence) or (hasattr(given, "__len__") and hasattr(given, "__getitem__"))
