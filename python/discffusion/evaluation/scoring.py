"""Scores of items: several in one call where the scorer can, and each pair once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import ConfigError, DatasetError, DiscffusionError, ImageError
from discffusion.evaluation.items import EvaluationItem

__all__ = ["Scoring"]

# Enough for the core to fill its batches, and few enough that little is lost when a run is killed.
_ITEMS, _PAIRS = 16, 64
# Scores that are kept for pairs which come again, about 200 MB; what does not fit is scored again.
_REMEMBERED = 1 << 20

# called with the evaluations of the network that are done, and how many there are to do
ProgressFunction: TypeAlias = Callable[[int, int], Any]


class Scoring:
    """Scores blocks of items.

    A scorer with ``score_pairs(images, texts, pairs)`` promises that the score of a pair depends on that pair alone.
    Then a block goes to it in one call, and a pair that several items have is scored once. One that has only
    ``matrix(images, texts)`` gets an item at a time.

    The last bits of a score may depend on what is computed beside it. So a block depends on the items alone, and what
    is scored of it on blocks before it alone: a run that is taken up in the middle computes what it would have
    computed anyway.

    Args:
        batch_items: items to a block; None for up to 16, fewer where they have many pairs.

    Raises:
        ConfigError: the scorer has neither method.
    """

    def __init__(self, scorer: Any, batch_items: int | None) -> None:
        self.together = callable(getattr(scorer, "score_pairs", None))
        has_matrix = callable(getattr(scorer, "matrix", None))
        if isinstance(scorer, type) or not (self.together or has_matrix):
            what = f"the class {scorer.__name__}" if isinstance(scorer, type) else type(scorer).__name__
            raise ConfigError(
                f"scorer is {what}; expected an object with matrix(images, texts), such as a Scorer"
            )
        self._scorer, self._name = scorer, type(scorer).__name__
        self._call = scorer.score_pairs if self.together else scorer.matrix
        self._shows_progress = "progress" in _parameters(self._call)
        self._batch_items = batch_items
        self._scored_pairs: dict[tuple[str, str], float] = {}
        self._tokens: dict[str, tuple[int, bool]] | None = {} if hasattr(scorer, "count_tokens") else None

    def blocks(self, entries: Iterable[EvaluationItem]) -> Iterator[list[EvaluationItem]]:
        """The items in order, those together that are scored together."""
        most = 1 if not self.together else self._batch_items or _ITEMS
        block: list[EvaluationItem] = []
        pairs = 0
        for entry in entries:
            size = entry.item.match.size
            if block and (len(block) == most or (self._batch_items is None and pairs + size > _PAIRS)):
                yield block
                block, pairs = [], 0
            block.append(entry)
            pairs += size
        if block:
            yield block

    def score(
        self, block: Sequence[EvaluationItem], report: ProgressFunction | None
    ) -> tuple[list[NDArray[np.float64]], int]:
        """The scores of all pairs of a block, an array ``[n_images, n_texts]`` an item, and how many were computed.

        Args:
            report: called as ``(done, total)``, if the scorer says how far it is.

        Raises:
            DiscffusionError: of the scorer; the message names the item.
        """
        try:
            return self._scores(block, report)
        except (ConfigError, DatasetError, ImageError) as error:
            raise _naming(error, self._culprit(block)) from error

    def remember(self, block: Iterable[EvaluationItem], scores: Iterable[NDArray[np.float64]]) -> None:
        """Keeps the scores of a block for blocks that come after it."""
        if not self.together:
            return
        for entry, values in zip(block, scores, strict=True):
            for image, row in zip(entry.digests, values.tolist(), strict=True):
                if len(self._scored_pairs) + len(row) > _REMEMBERED:
                    return
                for text, value in zip(entry.texts, row, strict=True):
                    self._scored_pairs.setdefault((image, text), value)

    def tokens(self, texts: Iterable[str]) -> dict[str, tuple[int, bool]] | None:
        """Of each text, the number of tokens and whether it is cut off; None if the scorer does not tell."""
        if self._tokens is None:
            return None
        new = [text for text in dict.fromkeys(texts) if text not in self._tokens]
        if new:
            counts = [(int(count), bool(cut)) for count, cut in self._scorer.count_tokens(new)]
            self._tokens.update(zip(new, counts, strict=True))
        return self._tokens

    def _scores(
        self, block: Sequence[EvaluationItem], report: ProgressFunction | None
    ) -> tuple[list[NDArray[np.float64]], int]:
        if not self.together:
            return [self._matrix(entry, report) for entry in block], sum(
                entry.item.match.size for entry in block
            )
        wanted = dict.fromkeys(
            pair for entry in block for pair in _pairs(entry) if pair not in self._scored_pairs
        )
        by_pair: dict[tuple[str, str], float] = {}
        if wanted:
            images: dict[str, Any] = {}
            for entry in block:
                images.update(zip(entry.digests, entry.images, strict=True))
            by_pair = self._pairs(images, list(wanted), report)
        scores = []
        for entry in block:
            values = [
                by_pair[pair] if pair in by_pair else self._scored_pairs[pair] for pair in _pairs(entry)
            ]
            scores.append(np.array(values, dtype=np.float64).reshape(entry.item.match.shape))
        return scores, len(wanted)

    def _pairs(
        self, images: dict[str, Any], wanted: list[tuple[str, str]], report: ProgressFunction | None
    ) -> dict[tuple[str, str], float]:
        rows = {image: place for place, image in enumerate(dict.fromkeys(image for image, _ in wanted))}
        places = {text: place for place, text in enumerate(dict.fromkeys(text for _, text in wanted))}
        pairs = [(rows[image], places[text]) for image, text in wanted]
        values = self._call([images[image] for image in rows], list(places), pairs, **self._progress(report))
        array = _array(values)
        if array is None or array.shape != (len(pairs),):
            raise ConfigError(
                f"score_pairs of {self._name} returned {_kind(values)}; expected {len(pairs)} numbers"
            )
        return dict(zip(wanted, array.tolist(), strict=True))

    def _matrix(self, entry: EvaluationItem, report: ProgressFunction | None) -> NDArray[np.float64]:
        values = self._call(list(entry.images), list(entry.texts), **self._progress(report))
        array, shape = _array(values), entry.item.match.shape
        if array is None or array.shape != shape:
            raise ConfigError(
                f"matrix of {self._name} returned {_kind(values)}; expected an array {list(shape)}"
            )
        return array

    def _progress(self, report: ProgressFunction | None) -> dict[str, Any]:
        return {"progress": report or False} if self._shows_progress else {}

    def _culprit(self, block: Sequence[EvaluationItem]) -> EvaluationItem | None:
        """The first item of a block that fails alone too."""
        if len(block) == 1:
            return block[0]
        for entry in block:
            try:
                self._scores([entry], None)
            except DiscffusionError:
                return entry
        return None


def _pairs(entry: EvaluationItem) -> Iterator[tuple[str, str]]:
    return ((image, text) for image in entry.digests for text in entry.texts)


def _naming(error: DiscffusionError, entry: EvaluationItem | None) -> DiscffusionError:
    return error if entry is None else type(error)(f"item {entry.item.key!r}: {error}")


def _parameters(function: Any) -> Iterable[str]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # not every callable tells
        return ()


def _array(values: Any) -> NDArray[np.float64] | None:
    if hasattr(values, "detach"):  # a torch tensor
        values = values.detach().cpu().double().numpy()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def _kind(values: Any) -> str:
    shape = getattr(values, "shape", None)
    return type(values).__name__ if shape is None else f"an array {list(shape)}"
