"""Files of rows, read: line by line, and with what a kill leaves at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from discffusion import _parquet as parquet
from discffusion.errors import DatasetError, OutputError
from discffusion.evaluation.store.rows import Gathered
from discffusion.evaluation.store.settings import run_of

__all__ = [
    "cut_half_a_row",
    "distinct_rows",
    "read_rows",
    "recorded",
    "refuse_others",
    "settings_in",
    "write",
]

_START = b'{"key": '  # how every row begins


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file, each with what errors call it; without one that is half written at the end.

    Raises:
        DatasetError: the file cannot be read; the message names the line.
    """
    if path.suffix == ".parquet":
        yield from parquet.read(path)
        return
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    if _is_half_a_row(line):
                        return
                    raise DatasetError(
                        f"{path}, line {number} is not JSON: {error}; where the line is deleted, what it held is "
                        "scored again"
                    ) from None
                yield f"{path}, line {number}", row
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from None


def recorded(path: Path) -> tuple[Gathered, dict[str, Any], str]:
    """The scores in a file of rows, the settings they were made with and the name of the model.

    Raises:
        ConfigError: the rows are of several evaluations.
        DatasetError: the file cannot be read, or holds no rows; the message names the line.
    """
    gathered, settings_of = Gathered(), settings_in(path)
    models: dict[str, str] = {}
    for where, row in read_rows(path):
        run = gathered.add(row, where)
        models.setdefault(run, str(row.get("model")))
        if isinstance(row.get("settings"), dict):
            settings_of[run] = row["settings"]
    if len(models) > 1:
        raise OutputError(f"{path} holds rows of {len(models)} evaluations; expected those of one")
    for run, model in models.items():
        return gathered, settings_of.get(run, {}), model
    raise DatasetError(f"{path} holds no rows")


def settings_in(path: Path) -> dict[str, dict[str, Any]]:
    """Settings by their digests, where a file keeps them beside its rows."""
    settings = parquet.settings_in(path) if path.suffix == ".parquet" else None
    return {} if settings is None else {run_of(settings): settings}


def distinct_rows(files: Iterable[Path], dedupe: bool) -> Iterator[dict[str, Any]]:
    """The rows of several files, without those of a pair that came before if there may be such."""
    seen: set[tuple[str, int, int]] = set()
    for path in files:
        for _, row in read_rows(path):
            pair = (row["key"], row["image_index"], row["text_index"])
            if pair in seen:
                continue
            if dedupe:
                seen.add(pair)
            yield row


def refuse_others(path: Path) -> None:
    """Starting over removes rows, damaged or not, but nothing else that happens to have the name of the output.

    Raises:
        DatasetError: the file holds something else.
    """
    if path.suffix == ".parquet":
        if parquet.settings_in(path) is None:
            raise DatasetError(
                f"{path} holds no rows of an evaluation and is not overwritten; give another output"
            )
        return
    with path.open("rb") as file:
        start = file.read(len(_START))
    if not _is_half_a_row(start):
        raise DatasetError(
            f"{path} begins with {start!r}, which is not a row, and is not overwritten; give another output"
        )


def cut_half_a_row(file: int) -> None:
    """Has a file of rows end with a whole line."""
    end = os.fstat(file).st_size
    tail = b""
    while end > 0 and b"\n" not in tail:
        start = max(0, end - (1 << 16))
        tail = os.pread(file, end - start, start) + tail
        end = start
    tail = tail[tail.rfind(b"\n") + 1 :]
    if not tail:
        return
    if _is_half_a_row(tail) and not _is_json(tail):
        os.ftruncate(file, os.fstat(file).st_size - len(tail))
    else:
        write(file, b"\n")  # only its end is missing


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_half_a_row(tail: bytes) -> bool:
    """Whether the last line of a file is what a kill, or a power failure, leaves of a row."""
    if tail.endswith(b"\n"):
        return False
    return tail.startswith(_START) or _START.startswith(tail) or not tail.strip(b"\0")


def write(file: int, data: bytes) -> None:
    """Writes all of it, which one call need not do."""
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
