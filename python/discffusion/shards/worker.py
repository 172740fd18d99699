"""Scoring one shard after the other, each into a file that appears when it is complete."""

from __future__ import annotations

import json
import time
import warnings
from typing import Any

from discffusion import _parquet as parquet
from discffusion._identity import anonymous, described, difference, identity
from discffusion.errors import DatasetError, OutputError
from discffusion.shards.inputs import Shard
from discffusion.shards.layout import Layout
from discffusion.shards.places import Folder, fetched
from discffusion.shards.rows import columns_of, rows_of, tally

__all__ = ["Worker", "counts_in", "failure_in", "made", "makes_one"]

#: Raised when rows mean something else than before.
_ROWS_VERSION = 1


def _settings(scorer: Any, layout: Layout) -> dict[str, Any]:
    """What must be the same for the files of a folder to belong together, plain data."""
    settings = {"rows": _ROWS_VERSION, "layout": layout.about(), "scorer": identity(described(scorer))}
    if getattr(scorer, "has_probability", False):  # which rows have too, also where scores are as without
        settings["calibration"] = scorer.calibration.digest
    return settings


class Worker:
    """Scores shards into a folder."""

    def __init__(self, scorer: Any, output: Folder, layout: Layout) -> None:
        self._scorer, self._output, self._layout = scorer, output, layout
        self.settings = _settings(scorer, layout)

    def score(self, shard: Shard) -> dict[str, Any]:
        """Scores a shard.

        Returns:
            How many rows it has and how many of them no score, or ``{"failed": why}`` if it cannot be read.

        Raises:
            DiscffusionError: the scorer fails, or the file cannot be written.
        """
        start = time.perf_counter()
        self._output.sweep(shard.output)
        try:
            with fetched(shard.address) as path:
                rows = rows_of(self._scorer, shard, path, self._layout)
        except (DatasetError, UnicodeError) as error:  # the latter of names that pyarrow cannot open
            self._output.write_text(
                shard.failed, json.dumps({"shard": shard.name, "failed": str(error)}) + "\n"
            )
            return {"failed": str(error)}
        counts = {**tally(rows), "seconds": round(time.perf_counter() - start, 3)}
        with self._output.writing(shard.output) as place:
            parquet.write(place, rows, self.settings, columns_of(self._scorer), {"counts": counts})
        self._output.remove(shard.failed)
        return counts


def made(scorer: Any) -> Any:
    """The scorer that is meant: the default one, what a function makes, or the one that is given."""
    if scorer is None:
        from discffusion.scorer import Scorer

        return Scorer()
    return scorer() if makes_one(scorer) else scorer


def makes_one(scorer: Any) -> bool:
    """Whether it is a function, or a class, that makes a scorer."""
    return callable(scorer) and (isinstance(scorer, type) or not hasattr(scorer, "score_pairs"))


def counts_in(output: Folder, shard: Shard, settings: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a finished shard has, or None if its file is damaged, as by a failing disk.

    Raises:
        OutputError: it was scored with other settings; says what differs.
    """
    try:
        with output.reading(shard.output) as file:
            notes = parquet.notes_in(file)
    except (DatasetError, OSError):
        return None
    counts, before = notes.get("counts"), notes.get("settings")
    if counts is None or before is None:
        raise OutputError(f"{output}/{shard.output} holds no rows of shards; give another folder")
    if settings is not None and before != settings:
        raise OutputError(
            f"{output}/{shard.output} was scored with other settings: {difference(before, settings)}; use the same "
            "ones, or another folder"
        )
    if settings is not None and anonymous(settings["scorer"]):
        warnings.warn(
            f"{output} has finished shards, which are kept, and the scorer does not describe itself: they may be of "
            "another one. Give it describe(), plain data that changes whenever its scores do",
            stacklevel=2,
        )
    return counts


def failure_in(output: Folder, shard: Shard) -> str:
    """Why a shard could not be read the last time."""
    try:
        with output.reading(shard.failed) as file:
            text = file.read_text(encoding="utf-8") if hasattr(file, "read_text") else file.read().decode()
        return str(json.loads(text)["failed"])
    except (OSError, ValueError, KeyError, TypeError):
        return "the reason cannot be read"
