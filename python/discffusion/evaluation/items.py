"""The items of an evaluation, one after the other, with what identifies their images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from discffusion.data.item import MatchItem
from discffusion.data.items import Items
from discffusion.errors import DatasetError, ImageError
from discffusion.images import prepare

__all__ = ["EvaluationItem", "EvaluationItems"]


@dataclass(frozen=True, eq=False)
class EvaluationItem:
    """An item that is scored.

    Attributes:
        item: the item.
        images: its images; what can be read only once has been read.
        references: a name of each image that is the same wherever the image is used.
        digests: sha256 of each image: of a file's bytes, or of the shape and the pixels where there is no file.
        texts: its texts. Items in succession that have the same texts share them.
    """

    item: MatchItem
    images: tuple[Any, ...]
    references: tuple[str, ...]
    digests: tuple[str, ...]
    texts: tuple[str, ...]


class EvaluationItems:
    """Reads items when they are needed; iterating gives a :class:`EvaluationItem` each.

    Args:
        given: an iterable of :class:`MatchItem`; a dataset says its name, metrics and what is missing.
        limit: use only so many of the first items.

    Raises:
        DatasetError: it is nothing of the kind, or empty.
    """

    def __init__(self, given: Any, limit: int | None) -> None:
        if limit is not None and isinstance(given, Iterator):
            given = list(islice(given, limit))  # it may have no end
        self._items = Items(given, "items")
        self._count = len(self._items) if limit is None else min(limit, len(self._items))
        self._digests: dict[tuple[str, int, int], str] = {}
        self.limit = limit
        self.name = str(getattr(given, "name", None) or "items")
        self.about: Any = getattr(given, "about", None) or {}
        self.metrics: tuple[str, ...] | None = getattr(given, "metrics", None)
        self.missing: tuple[str, ...] = tuple(getattr(given, "missing", ()))
        expected = int(getattr(given, "expected", len(self._items)))
        self.expected = expected if limit is None else min(limit, expected)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[EvaluationItem]:
        places: dict[str, int] = {}
        texts: tuple[str, ...] = ()
        for index in range(self._count):
            item = self._items[index]
            first = places.setdefault(item.key, index)
            if first != index:
                raise DatasetError(
                    f"items {first} and {index} have the same key {item.key!r}; a key must belong to one item"
                )
            if tuple(item.texts) != texts:
                texts = _checked_texts(item)
            yield self._question(item, texts)

    def items(self) -> Iterator[MatchItem]:
        """The items alone; their images are not read."""
        return (self._items[index] for index in range(self._count))

    def _question(self, item: MatchItem, texts: tuple[str, ...]) -> EvaluationItem:
        images, digests = [], []
        for place, image in enumerate(item.images):
            try:
                if hasattr(image, "read"):
                    image = prepare(image)
                digests.append(self._digest(image))
            except ImageError as error:
                raise ImageError(f"item {item.key!r}, image {place}: {error}") from error
            images.append(image)
        return EvaluationItem(item, tuple(images), _references(item, digests), tuple(digests), texts)

    def _digest(self, image: Any) -> str:
        if not isinstance(image, str | os.PathLike):
            return _digest(prepare(image))
        try:
            path = Path(image).expanduser()
            stat = path.stat()
            state = (str(path), stat.st_mtime_ns, stat.st_size)
        except (OSError, ValueError, RuntimeError):
            return _digest(prepare(image))  # which says what is wrong
        if state not in self._digests:
            self._digests[state] = _digest(prepare(image))
        return self._digests[state]


def _digest(prepared: Any) -> str:
    if isinstance(prepared, bytes):
        return hashlib.sha256(prepared).hexdigest()
    sha = hashlib.sha256(repr(prepared.shape).encode())
    sha.update(prepared.tobytes())
    return sha.hexdigest()


def _references(item: MatchItem, digests: list[str]) -> tuple[str, ...]:
    named = (item.meta or {}).get("images")
    if named is None:
        return tuple(
            os.fspath(image) if isinstance(image, str | os.PathLike) else f"sha256:{digest[:16]}"
            for image, digest in zip(item.images, digests, strict=True)
        )
    if isinstance(named, str) or len(named) != len(item.images):
        raise DatasetError(
            f"item {item.key!r}: meta['images'] must hold a reference to each of its {len(item.images)} images"
        )
    return tuple(str(name) for name in named)


def _checked_texts(item: MatchItem) -> tuple[str, ...]:
    for place, text in enumerate(item.texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DatasetError(f"item {item.key!r}, text {place} is not valid Unicode: {error}") from None
    return tuple(item.texts)
