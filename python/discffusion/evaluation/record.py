"""What is known of one scored item: all that metrics see."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.data.item import MatchItem
from discffusion.errors import ConfigError, DatasetError

__all__ = ["Record", "clusters_of", "ordered"]


_PART = re.compile(r"#[^#,]+(,[^#,]+){3}$")


@dataclass(frozen=True, eq=False)
class Record:
    """The scores of one item beside the truth.

    Attributes:
        key: name of the item, unique within its run.
        scores: float64 ``[n_images, n_texts]``, higher for a better match; never NaN.
        match: bool ``[n_images, n_texts]``.
        group: category that is reported separately, or None.
        images: a reference to each image that is the same wherever it is used; by default no image is shared.
        texts: the texts, one a column; empty if not known.
        meta: the item's own ``meta``.
        probabilities: of a match, float64 ``[n_images, n_texts]``, 0 to 1, by the calibration of the scores; None if
            they have none.

    Raises:
        DatasetError: the shapes differ, a score is NaN, or a probability is none.
    """

    key: str
    scores: NDArray[np.float64]
    match: NDArray[np.bool_]
    group: str | None = None
    images: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    probabilities: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        scores, match = np.asarray(self.scores, np.float64), np.asarray(self.match, np.bool_)
        if scores.ndim != 2 or scores.shape != match.shape or scores.size == 0:
            raise DatasetError(
                f"item {self.key!r}: scores have shape {scores.shape} and match {match.shape}; both must be "
                "[n_images, n_texts]"
            )
        if np.isnan(scores).any():
            raise DatasetError(f"item {self.key!r}: a score is NaN, which compares with nothing")
        images = tuple(self.images) or tuple(f"{self.key}#{index}" for index in range(len(scores)))
        texts = tuple(self.texts)
        if len(images) != scores.shape[0] or len(texts) not in (0, scores.shape[1]):
            raise DatasetError(
                f"item {self.key!r}: {len(images)} image references and {len(texts)} texts for scores of shape "
                f"{scores.shape}"
            )
        for name, value in (("scores", scores), ("match", match), ("images", images), ("texts", texts)):
            object.__setattr__(self, name, value)
        if self.probabilities is not None:
            object.__setattr__(self, "probabilities", self._checked(self.probabilities))

    def _checked(self, probabilities: Any) -> NDArray[np.float64]:
        checked = np.asarray(probabilities, np.float64)
        if checked.shape != self.scores.shape or not ((checked >= 0) & (checked <= 1)).all():
            raise DatasetError(
                f"item {self.key!r}: its probabilities have the shape {checked.shape}; expected numbers from 0 to 1 of "
                f"the shape {self.scores.shape}"
            )
        return checked

    @classmethod
    def of(cls, item: MatchItem, scores: Any) -> Record:
        """The record of `item`; image references are ``item.meta["images"]`` where it has them."""
        meta = dict(item.meta or {})
        images = tuple(str(image) for image in meta.get("images") or ())
        return cls(item.key, scores, item.match, item.group, images, tuple(item.texts), meta)


def ordered(records: Iterable[Record]) -> list[Record]:
    """The records by key, so that no result depends on the order in which they were scored.

    Raises:
        ConfigError: there are none, or two have the same key.
    """
    in_order = sorted(records, key=lambda record: record.key)
    if not in_order:
        raise ConfigError("there are no scored items to measure")
    for one, other in zip(in_order[:-1], in_order[1:], strict=True):
        if one.key == other.key:
            raise ConfigError(f"two scored items have the key {one.key!r}; keys must be unique")
    return in_order


def clusters_of(records: list[Record]) -> NDArray[np.intp]:
    """The number of the image group of each record: int ``[n]``, counted from 0 in the order of the records.

    Records belong together that share a matching image, also by way of others. One without any counts by its first.
    Parts of one image, whose references end in ``#x,y,width,height``, are the same image here.
    """
    parent = list(range(len(records)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[str, int] = {}
    for index, record in enumerate(records):
        matching = np.flatnonzero(record.match.any(axis=1))
        for image in matching.tolist() or [0]:
            whole = _PART.sub("", record.images[image])
            one, other = root(index), root(first.setdefault(whole, index))
            parent[max(one, other)] = min(one, other)
    roots = np.array([root(index) for index in range(len(records))], np.intp)
    return np.unique(roots, return_inverse=True)[1].astype(np.intp).reshape(-1)
