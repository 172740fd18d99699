"""Parquet files of rows with notes in their metadata: read, and written whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from discffusion._extras import need
from discffusion._files import replacing
from discffusion.errors import DatasetError, DiscffusionError

__all__ = ["notes_in", "read", "settings_in", "write"]

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
    notes = {}
    for name, data in (_open(path).schema_arrow.metadata or {}).items():
        if not name.startswith(_OURS):
            continue
        try:
            note = json.loads(data)
        except ValueError:
            continue
        if isinstance(note, dict):
            notes[name[len(_OURS) :].decode(errors="replace")] = note
    return notes


def write(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    settings: Mapping[str, Any],
    columns: Mapping[str, str],
    notes: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Replaces the file at `path`, all or nothing.

    Args:
        columns: the columns and their types, as pyarrow names those; ``"int32[]"`` is a list of them.
        notes: more to be kept with the rows, plain data.

    Raises:
        InstallationError: pyarrow is not installed.
    """
    arrow, parquet = need("pyarrow", "data"), need("pyarrow.parquet", "data")
    kinds = {name: _kind(arrow, kind) for name, kind in columns.items()}
    all_notes = {_SETTINGS: settings, **notes}
    metadata = {_OURS + name.encode(): json.dumps(note).encode() for name, note in all_notes.items()}
    schema = arrow.schema(kinds.items(), metadata=metadata)
    remaining = iter(rows)
    try:
        with (
            replacing(path) as temporary,
            parquet.ParquetWriter(temporary, schema, compression="zstd") as file,
        ):
            while chunk := list(islice(remaining, _CHUNK)):
                cells = [_column(arrow, chunk, name, kind) for name, kind in kinds.items()]
                file.write_table(arrow.Table.from_arrays(cells, schema=schema))
    except arrow.ArrowException as error:
        raise DiscffusionError(f"{path} cannot be written: {error}") from None


def _kind(arrow: Any, name: str) -> Any:
    if name.endswith("[]"):
        return arrow.list_(_kind(arrow, name[:-2]))
    return getattr(arrow, name)()


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
