"""Rows as a parquet file: read, and written whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from discffusion._extras import need
from discffusion.errors import DatasetError, DiscffusionError
from discffusion.training.files import part_of

__all__ = ["notes_in", "read", "settings_in", "write"]

_KINDS = {
    "key": "string",
    "dataset": "string",
    "image_index": "int32",
    "text_index": "int32",
    "match": "bool_",
    "group": "string",
    "image_ref": "string",
    "image_sha256": "string",
    "text": "string",
    "score": "float64",
    "score_version": "string",
    "model": "string",
    "fingerprint": "string",
    "revision": "string",
    "deltas": "string",
    "dtype": "string",
    "seed": "int64",
    "n_noise": "int32",
    "timesteps": "int32",  # a list of them
    "preprocess_version": "string",
    "n_tokens": "int32",
    "truncated": "bool_",
    "device": "string",
    "versions": "string",
    "seconds": "float64",
    "run": "string",
}
_OURS, _SETTINGS = b"discffusion.", "settings"
_CHUNK = 8192


def read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file, each with what errors call it.

    Raises:
        DatasetError: it cannot be read.
        InstallationError: pyarrow is not installed.
    """
    number = 0
    file = _open(path)
    arrow = need("pyarrow", "data")
    try:
        for batch in file.iter_batches(_CHUNK):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except (arrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path} cannot be read after row {number}: {error}") from None


def settings_in(path: Path) -> dict[str, Any] | None:
    """The settings that :func:`write` put into a file, or None."""
    return notes_in(path).get(_SETTINGS)


def notes_in(path: Any) -> dict[str, dict[str, Any]]:
    """The settings and other notes that :func:`write` put into a file, by name.

    Args:
        path: of the file, or the file itself, open.
    """
    found = {}
    for name, data in (_open(path).schema_arrow.metadata or {}).items():
        if not name.startswith(_OURS):
            continue
        try:
            note = json.loads(data)
        except ValueError:
            continue
        if isinstance(note, dict):
            found[name[len(_OURS) :].decode(errors="replace")] = note
    return found


def write(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    settings: Mapping[str, Any],
    columns: Mapping[str, str] = _KINDS,
    notes: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Replaces the file at `path`, all or nothing.

    Args:
        columns: the columns and their types, as pyarrow names those.
        notes: more to be kept with the rows, plain data.

    Raises:
        InstallationError: pyarrow is not installed.
    """
    arrow, parquet = need("pyarrow", "data"), need("pyarrow.parquet", "data")
    kinds: dict[str, Any] = {name: getattr(arrow, kind)() for name, kind in columns.items()}
    if "timesteps" in kinds:
        kinds["timesteps"] = arrow.list_(arrow.int32())
    told = {_SETTINGS: settings, **notes}
    metadata = {_OURS + name.encode(): json.dumps(note).encode() for name, note in told.items()}
    schema = arrow.schema(kinds.items(), metadata=metadata)
    part = part_of(path)
    left = iter(rows)
    try:
        with parquet.ParquetWriter(part, schema, compression="zstd") as file:
            while chunk := list(islice(left, _CHUNK)):
                cells = [_column(arrow, chunk, name, kind) for name, kind in kinds.items()]
                file.write_table(arrow.Table.from_arrays(cells, schema=schema))
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    except (arrow.ArrowException, OSError) as error:
        raise DiscffusionError(f"{path} cannot be written: {error}") from None
    finally:
        part.unlink(missing_ok=True)


def _column(arrow: Any, rows: list[Mapping[str, Any]], name: str, kind: Any) -> Any:
    values = [row.get(name) for row in rows]
    if kind == arrow.string():
        values = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return arrow.array(values, type=kind)


def _open(path: Any) -> Any:
    arrow, parquet = need("pyarrow", "data"), need("pyarrow.parquet", "data")
    try:
        return parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path} is not a parquet file that can be read: {error}") from None
