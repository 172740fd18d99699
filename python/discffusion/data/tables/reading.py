"""Rows of files of every kind that a table comes in: csv, tsv, JSON, JSON lines, parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from discffusion.data.files import read_csv, read_jsonl, read_text
from discffusion.data.tables.cells import ListedRows, ParquetRows, Rows
from discffusion.errors import DatasetError, DatasetOptionError

__all__ = ["KINDS", "rows_in"]

#: extensions, and the delimiter where there is one
KINDS = {".csv": ",", ".tsv": "\t", ".json": None, ".jsonl": None, ".ndjson": None, ".parquet": None}
_ENCODING = "give encoding={}, or save it as UTF-8"
_DELIMITER = "give delimiter={}, or save it with commas"

_Records = Iterator[tuple[Mapping[str, Any], str]]


def rows_in(
    paths: Sequence[Path], columns: Sequence[str], delimiter: str | None = None, encoding: str | None = None
) -> Rows:
    """The rows of files of one kind, one file after the other.

    Args:
        columns: those that must be there; further ones are of no interest.
        delimiter: of csv and tsv; None for a comma, and a tab in ``.tsv``.
        encoding: of text; None for UTF-8.

    Raises:
        DatasetError: a file cannot be read, or a column or field is not there.
    """
    kinds = {path.suffix.lower() for path in paths}
    if len(kinds) > 1:
        raise DatasetError(f"{paths[0].parent} holds files of one split as {' and '.join(sorted(kinds))}")
    kind = kinds.pop()
    if delimiter is not None and KINDS[kind] is None:
        raise DatasetOptionError(f"delimiter= is for .csv and .tsv; {paths[0]} is {kind}")
    if kind == ".parquet":
        if encoding is not None:
            raise DatasetOptionError(f"encoding= is for text; {paths[0]} is parquet")
        return ParquetRows(paths, columns)
    text = {"encoding": encoding, "hint": _ENCODING}
    there = list(columns)
    records: list[tuple[Mapping[str, Any], str]] = []
    for path in paths:
        if KINDS[kind] is not None:
            lines = list(read_csv(path, columns, delimiter or str(KINDS[kind]), _DELIMITER, **text))
            records += [(cells, f"{path}, line {line}") for line, cells in lines]
            there = list(lines[0][1]) if lines else there
        else:
            read = _json(path, columns, text) if kind == ".json" else _lines(path, text)
            records += _checked(read, columns)
    return ListedRows(there, records)


def _lines(path: Path, text: Mapping[str, Any]) -> _Records:
    return ((record, f"{path}, line {line}") for line, record in read_jsonl(path, **text))


def _checked(records: _Records, columns: Sequence[str]) -> _Records:
    for record, where in records:
        absent = [column for column in columns if column not in record]
        if absent:
            raise DatasetError(
                f"{where} has no field {', '.join(map(repr, absent))}; it has {', '.join(record) or 'none'}"
            )
        yield record, where


def _json(path: Path, columns: Sequence[str], text: Mapping[str, Any]) -> _Records:
    """The records of a JSON file: a list of objects, an object of columns, or an object of records by key."""
    content = read_text(path, **text)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        if "Extra data" in str(error) and content.lstrip().startswith("{"):
            return _lines(path, text)  # JSON lines under the other name
        raise DatasetError(f"{path} is not JSON: {error}") from None
    if isinstance(value, dict) and not (columns and set(columns) <= set(value)):
        lists = [part for part in value.values() if isinstance(part, list)]
        if value and all(isinstance(part, dict) for part in value.values()):
            return ((record, f"{path}, record {key!r}") for key, record in value.items())
        if len(lists) == 1:  # {"version": 1, "data": [...]}
            value = lists[0]
    if isinstance(value, dict):
        if not set(columns) & set(value):
            raise DatasetError(
                f"{path} holds an object of {', '.join(map(str, list(value)[:10])) or 'nothing'}; expected a list of "
                "objects, one a row, or an object of columns"
            )
        return iter(_columns(path, value, columns))
    if not isinstance(value, list):
        raise DatasetError(f"{path} holds {type(value).__name__}; expected a list of objects, one a row")
    for number, record in enumerate(value):
        if not isinstance(record, dict):
            raise DatasetError(
                f"{path}, record {number} is {type(record).__name__}; expected an object, the row of a table"
            )
    return ((record, f"{path}, record {number}") for number, record in enumerate(value))


def _columns(
    path: Path, value: Mapping[str, Any], columns: Sequence[str]
) -> list[tuple[Mapping[str, Any], str]]:
    """Rows of columns, each a list of cells or an object of cells by the row's name, as pandas writes it."""
    absent = [column for column in columns if column not in value]
    if absent:
        raise DatasetError(
            f"{path} has no column {', '.join(map(repr, absent))}; it has {', '.join(map(str, value))}"
        )
    used = {column: value[column] for column in columns}
    kinds = {type(cells) for cells in used.values()}
    if kinds not in ({list}, {dict}):
        column = next(column for column, cells in used.items() if not isinstance(cells, list))
        raise DatasetError(
            f"{path}: the column {column!r} is {type(used[column]).__name__}; expected a list of cells"
        )
    names: Any = [list(cells) if isinstance(cells, dict) else range(len(cells)) for cells in used.values()]
    if any(list(one) != list(names[0]) for one in names):
        counts = ", ".join(f"{column!r} {len(cells)}" for column, cells in used.items())
        raise DatasetError(f"{path}: the columns have not the same rows: {counts}")
    return [
        ({column: cells[name] for column, cells in used.items()}, f"{path}, record {name}")
        for name in names[0]
    ]
