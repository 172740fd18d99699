"""The rows of an evaluation, one a pair of an image and a text, and what is known from those that were written."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import DatasetError, OutputError
from discffusion.evaluation.items import EvaluationItem

__all__ = ["Gathered", "rows_of"]

# what a row must have to be read again, and its type
_NEEDED: dict[str, type] = {
    "key": str,
    "image_index": int,
    "text_index": int,
    "match": bool,
    "image_sha256": str,
    "text": str,
    "score": float,
    "run": str,
}
# what is kept of it, with types as array and numpy both name them; text is kept as a number that stands for it
_COLUMNS = {
    "key": "i",
    "image_index": "i",
    "text_index": "i",
    "match": "b",
    "image_sha256": "i",
    "text": "i",
    "score": "d",
}


def rows_of(
    entry: EvaluationItem,
    scores: NDArray[np.float64],
    stored: NDArray[np.float64],
    constant: Mapping[str, Any],
    tokens: Mapping[str, tuple[int, bool]] | None,
) -> Iterator[dict[str, Any]]:
    """The rows of an item whose score is not `stored`, which has NaN there, in order.

    Args:
        constant: what is the same in all rows of a run, and ``seconds`` and ``dataset``.
        tokens: for each text, the number of its tokens and whether it is cut off.
    """
    item = entry.item
    for i, j in np.argwhere(np.isnan(stored)).tolist():
        text = entry.texts[j]
        count, cut = (None, None) if tokens is None else tokens[text]
        yield {
            "key": item.key,
            "image_index": i,
            "text_index": j,
            "match": bool(item.match[i, j]),
            "group": item.group,
            "image_ref": entry.references[i],
            "image_sha256": entry.digests[i],
            "text": text,
            "score": float(scores[i, j]),
            "n_tokens": count,
            "truncated": cut,
            **constant,
        }


class Gathered:
    """Scores by item, collected from rows in any order. A pair that comes twice counts as it came first.

    Attributes:
        cut: texts that were longer than the model reads, with their numbers of tokens.
    """

    def __init__(self) -> None:
        self.cut: dict[str, int] = {}
        self._names: dict[str, int] = {}  # of keys, digests and texts, so that each is kept once
        self._columns = {name: array(kind) for name, kind in _COLUMNS.items()}
        self._sorted: dict[str, NDArray[Any]] | None = None

    def __len__(self) -> int:
        return len(self._columns["score"])

    def add(self, row: Any, where: str) -> str:
        """Takes a row; returns the digest of the settings it was made with.

        Raises:
            DatasetError: it is not a row of an evaluation; the message says `where`.
        """
        if not isinstance(row, dict):
            raise DatasetError(f"{where} is not a row of an evaluation: it holds {type(row).__name__}")
        for name, kind in _NEEDED.items():
            value = row.get(name)
            if kind is float and type(value) is int:
                value = row[name] = float(value)
            if type(value) is not kind:
                what = f"its {name} is {value!r:.60}" if name in row else f"it has no {name!r}"
                raise DatasetError(f"{where} is not a row of an evaluation: {what}")
        if not math.isfinite(row["score"]):
            raise DatasetError(f"{where}: its score is {row['score']}; expected a finite number")
        if not (0 <= row["image_index"] < 1 << 31 and 0 <= row["text_index"] < 1 << 31):
            raise DatasetError(f"{where}: image_index and text_index must be 0 or more")
        columns = self._columns
        for name in ("key", "image_sha256", "text"):
            columns[name].append(self._names.setdefault(row[name], len(self._names)))
        for name in ("image_index", "text_index", "match", "score"):
            columns[name].append(row[name])
        if row.get("truncated") is True and isinstance(row.get("n_tokens"), int):
            self.cut[row["text"]] = row["n_tokens"]
        self._sorted = None
        run: str = row["run"]
        return run

    def scores(self, entry: EvaluationItem, where: str) -> NDArray[np.float64]:
        """What is known of an item: float64 ``[n_images, n_texts]``, NaN where nothing is.

        Raises:
            ConfigError: its rows are of another item of the same key; the message says `where` and what differs.
        """
        match = entry.item.match
        scores = np.full(match.shape, np.nan)
        rows = self._rows(entry.item.key)
        i, j = rows["image_index"], rows["text_index"]
        if not len(i):
            return scores
        if i.max() >= match.shape[0] or j.max() >= match.shape[1]:
            shape = f"{match.shape[0]} images and {match.shape[1]} texts"
            raise _other(entry, where, f"it has {shape}, and there are rows of others")
        for name, now, at in (("text", entry.texts, j), ("image_sha256", entry.digests, i)):
            expected = np.array([self._names.get(value, -1) for value in now])[at]
            wrong = np.flatnonzero(expected != rows[name])
            if len(wrong):
                place, was = int(at[wrong[0]]), list(self._names)[int(rows[name][wrong[0]])]
                raise _other(entry, where, f"{name} {place} was {was!r} and is {now[place]!r}")
        if (match[i, j] != rows["match"]).any():
            raise _other(entry, where, "other images and texts of it match")
        first = np.unique(i.astype(np.int64) * match.shape[1] + j, return_index=True)[1]
        scores[i[first], j[first]] = rows["score"][first]
        return scores

    def duplicates(self) -> bool:
        """Whether a pair came twice."""
        if not len(self):
            return False
        key, i, j = (self._column(name).astype(np.int64) for name in ("key", "image_index", "text_index"))
        order = np.lexsort((j, i, key))
        steps = [np.diff(column[order]) for column in (key, i, j)]
        return bool(((steps[0] == 0) & (steps[1] == 0) & (steps[2] == 0)).any())

    def _rows(self, key: str) -> dict[str, NDArray[Any]]:
        """The rows of an item in the order they came in."""
        if self._sorted is None:
            columns = {name: self._column(name) for name in _COLUMNS}
            order = np.argsort(columns["key"], kind="stable")
            self._sorted = {name: values[order] for name, values in columns.items()}
        number = self._names.get(key, -1)
        first, last = np.searchsorted(self._sorted["key"], [number, number + 1])
        return {name: values[first:last] for name, values in self._sorted.items()}

    def _column(self, name: str) -> NDArray[Any]:
        return np.array(self._columns[name], dtype=_COLUMNS[name])


def _other(entry: EvaluationItem, where: str, what: str) -> OutputError:
    return OutputError(
        f"the rows in {where} are of another item {entry.item.key!r}: {what}; give another output, or start over "
        "with resume=False"
    )
