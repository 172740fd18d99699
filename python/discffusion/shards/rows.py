"""The rows of a shard: a score, or why there is none, for every image and text."""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from discffusion import _native
from discffusion.errors import ConfigError, ImageError
from discffusion.images import prepare
from discffusion.shards.formats import unsupported_format
from discffusion.shards.inputs import Shard, printable
from discffusion.shards.layout import Layout
from discffusion.shards.samples import Failure, Sample, samples

__all__ = ["COLUMNS", "KINDS", "columns_of", "rows_of", "tally"]

#: columns of the files of rows and their types, as pyarrow names those
COLUMNS = {
    "shard": "string",
    "member": "string",
    "text_index": "int32",
    "key": "string",
    "text": "string",
    "score": "float64",
    "image_sha256": "string",
    "n_tokens": "int32",
    "truncated": "bool_",
    "error": "string",
    "message": "string",
}

#: the column of probabilities, which stands behind that of the scores where there are any
_PROBABILITY = "probability"

#: what can be wrong with a pair
KINDS = {
    "missing_image": "there is no image, or no file where it should be",
    "corrupt_image": "the image cannot be decoded",
    "unsupported_image": "the image is of a format that is not read",
    "missing_text": "there is no text, or an empty one",
    "bad_text": "the text is not valid Unicode or not a string, or its JSON is malformed",
    "text_too_long": "the text has more tokens than the model reads, and truncate is 'error'",
    "duplicate_member": "the tar holds a file of that name twice",
    "bad_row": "a line is not a JSON object, or a cell cannot be read",
    "not_finite": "the score is not a finite number",
}

# Enough for the core to fill its batches. What is scored together depends on the shard alone, so that a shard that is
# scored again gets the same scores to the last bit.
_IMAGES, _PAIRS = 16, 64


def rows_of(scorer: Any, shard: Shard, path: Path, layout: Layout) -> list[dict[str, Any]]:
    """The rows of a shard in its order; each image is encoded once.

    Raises:
        DatasetError: the shard as a whole cannot be read.
        DiscffusionError: the scorer fails for a reason that is not in the data.
    """
    return _Scoring(scorer, shard).rows(samples(shard, path, layout))


def columns_of(scorer: Any) -> dict[str, str]:
    """The columns of the rows of a scorer: :data:`COLUMNS`, and ``probability`` where its scores have one."""
    if not getattr(scorer, "has_probability", False):
        return COLUMNS
    columns: dict[str, str] = {}
    for name, kind in COLUMNS.items():
        columns[name] = kind
        if name == "score":
            columns[_PROBABILITY] = kind
    return columns


def tally(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many rows there are, and how many of them have no score, by kind."""
    return {"rows": len(rows), "failures": dict(Counter(row["error"] for row in rows if row["error"]))}


class _Scoring:
    def __init__(self, scorer: Any, shard: Shard) -> None:
        if not callable(getattr(scorer, "score_pairs", None)):
            raise ConfigError(
                f"scorer is {type(scorer).__name__}; expected an object with score_pairs, such as a Scorer"
            )
        self._scorer, self._shard = scorer, shard
        takes_progress = "progress" in inspect.signature(scorer.score_pairs).parameters
        self._quiet = {"progress": False} if takes_progress else {}
        # a scorer that cuts long texts counts no error
        config = getattr(scorer, "config", None)
        self._strict = getattr(config, "truncate", None) == "error"
        self._columns = columns_of(scorer)

    def rows(self, samples: Iterator[Sample | tuple[str, Failure]]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        groups: dict[str, list[tuple[dict[str, Any], Sample]]] = {}
        for sample in samples:
            if not isinstance(sample, Sample):
                member, failure = sample
                rows.append(self._row(member, 0, failure))
                continue
            for index, text in enumerate(sample.texts):
                row = self._row(sample.member, index, text)
                row["key"] = sample.key
                rows.append(row)
                if row["error"] is None:
                    groups.setdefault(sample.image, []).append((row, sample))
        self._count_tokens([row for group in groups.values() for row, _ in group])
        block: list[tuple[bytes, list[dict[str, Any]]]] = []
        for group in groups.values():
            wanted = [row for row, _ in group if row["error"] is None]
            data = self._read(group[0][1], wanted) if wanted else None
            if data is None:
                continue
            for start in range(0, len(wanted), _PAIRS):
                part = wanted[start : start + _PAIRS]
                if block and (
                    len(block) == _IMAGES or sum(len(own) for _, own in block) + len(part) > _PAIRS
                ):
                    self._score(block)
                    block = []
                block.append((data, part))
        if block:
            self._score(block)
        return rows

    def _row(self, member: str, index: int, text: str | Failure) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(self._columns)
        row.update(shard=self._shard.name, member=member, text_index=index)
        if isinstance(text, Failure):
            _fail(row, text)
        else:
            row["text"] = text
        return row

    def _count_tokens(self, rows: Sequence[dict[str, Any]]) -> None:
        if not rows or not hasattr(self._scorer, "count_tokens"):
            return
        texts = list(dict.fromkeys(row["text"] for row in rows))
        counts = dict(zip(texts, self._scorer.count_tokens(texts), strict=True))
        for row in rows:
            row["n_tokens"], row["truncated"] = int(counts[row["text"]][0]), bool(counts[row["text"]][1])
            if row["truncated"] and self._strict:
                said = f"the text has {row['n_tokens']} tokens, more than the model reads"
                _fail(row, Failure("text_too_long", said))

    def _read(self, sample: Sample, rows: Sequence[dict[str, Any]]) -> bytes | None:
        """The bytes of an image, or None and the reason in its rows."""
        try:
            data = sample.read()
        except (OSError, ValueError) as error:
            _fail_all(rows, Failure("missing_image", str(error)))
            return None
        digest = hashlib.sha256(data).hexdigest()
        for row in rows:
            row["image_sha256"] = digest
        if not data:
            _fail_all(rows, Failure("missing_image", "the image is empty"))
            return None
        return data

    def _score(self, block: Sequence[tuple[bytes, list[dict[str, Any]]]]) -> None:
        """Scores some images with their texts. Where an image cannot be decoded, the others are scored without it."""
        try:
            values = self._values(block)
        except ImageError:
            good = []
            for data, rows in block:
                failure = _decoding(data)
                if failure is None:
                    good.append((data, rows))
                else:
                    _fail_all(rows, failure)
            if len(good) == len(block):
                raise  # nothing is wrong with these images: it is the scorer
            if good:
                self._score(good)
            return
        for row, value in zip((row for _, rows in block for row in rows), values, strict=True):
            if np.isfinite(value):
                row["score"] = value
                if _PROBABILITY in self._columns:
                    row[_PROBABILITY] = float(self._scorer.calibration.probability(value))
            else:
                _fail(
                    row, Failure("not_finite", f"the score is {value}; in float16, try float32 or bfloat16")
                )

    def _values(self, block: Sequence[tuple[bytes, list[dict[str, Any]]]]) -> list[float]:
        distinct = dict.fromkeys(row["text"] for _, rows in block for row in rows)
        place = {text: number for number, text in enumerate(distinct)}
        pairs = [(image, place[row["text"]]) for image, (_, rows) in enumerate(block) for row in rows]
        images = [data for data, _ in block]
        values = np.asarray(self._scorer.score_pairs(images, list(place), pairs, **self._quiet), np.float64)
        if values.shape != (len(pairs),):
            raise ConfigError(
                f"score_pairs of {type(self._scorer).__name__} returned {list(values.shape)}; expected [{len(pairs)}]"
            )
        scores: list[float] = values.tolist()
        return scores


def _decoding(data: bytes) -> Failure | None:
    try:
        prepared = prepare(data)
        if isinstance(prepared, bytes):
            _native.core().decode_image(prepared)
    except ImageError as error:
        unread = unsupported_format(data)
        if unread is not None:
            return Failure("unsupported_image", f"{unread} is not read; convert it to PNG or JPEG ({error})")
        return Failure("corrupt_image", str(error))
    return None


def _fail_all(rows: Sequence[dict[str, Any]], failure: Failure) -> None:
    for row in rows:
        _fail(row, failure)


def _fail(row: dict[str, Any], failure: Failure) -> None:
    row["error"], row["message"] = failure.kind, printable(failure.message[:500])
