"""Annotation files, read so that whatever is wrong is a :class:`DatasetError` that names the file and the record."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from discffusion._extras import need
from discffusion.data.guesses import is_wide, likely_delimiter, likely_encoding, looks_like
from discffusion.data.item import MatchItem
from discffusion.errors import DatasetError, DatasetOptionError

__all__ = [
    "field",
    "folder",
    "item",
    "one_of",
    "read_csv",
    "read_json",
    "read_jsonl",
    "read_parquet",
    "read_text",
    "several",
    "whole_number",
    "without_point",
]

Row = TypeVar("Row")


def folder(root: Any, name: str, expected: str) -> Path:
    """The folder of a dataset's files.

    Args:
        root: what the user gave.
        name: of the dataset.
        expected: what belongs there, for the message.
    """
    if root is None:
        raise DatasetOptionError(f"{name} needs root=, the folder of its files: {expected}")
    try:
        path = Path(root).expanduser()
    except (TypeError, RuntimeError) as error:
        raise DatasetOptionError(f"root is {root!r}; expected a folder ({error})") from None
    if not path.is_dir():
        there = "is not a folder" if path.exists() else "does not exist"
        raise DatasetError(f"{name}: the folder {path} {there}; it should hold {expected}")
    return path


def one_of(root: Path, names: Sequence[str], name: str) -> Path:
    """The first of these files that exists in `root`."""
    for candidate in names:
        if (root / candidate).is_file():
            return root / candidate
    raise DatasetError(f"{name}: {root} holds none of {', '.join(names)}")


def read_text(path: Path, encoding: str | None = None, hint: str = "save it as UTF-8") -> str:
    """A whole file as text.

    Args:
        encoding: its encoding; None for UTF-8, with or without a byte order mark.
        hint: what to do where it is in another; ``{}`` stands for the encoding that it seems to be in.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        if encoding is None and is_wide(data):
            raise UnicodeDecodeError("utf-8", data, 0, 1, "two bytes a letter")
        text = data.decode(encoding or "utf-8-sig").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise DatasetError(f"{path} is not text in encoding={encoding!r} (byte {error.start})") from None
        said = looks_like(likely_encoding(data), hint)
        raise DatasetError(f"{path} is not UTF-8 text (byte {error.start}: {error.reason}){said}") from None
    except UnicodeError as error:
        raise DatasetError(f"{path} is not text in encoding={encoding!r}: {error}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path, kind: type[Any] | tuple[type[Any], ...], **text: Any) -> Any:
    """A JSON file whose outermost value is of a kind, ``list`` or ``dict``; `text` as for :func:`read_text`."""
    try:
        value = json.loads(read_text(path, **text))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not JSON: {error}") from None
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds):
        names = " or ".join("an object" if k is dict else f"a {k.__name__}" for k in kinds)
        raise DatasetError(f"{path} holds {_kind(value)}; expected {names}")
    return value


def read_jsonl(path: Path, **text: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number, from 1, and object of every line that is not empty; `text` as for :func:`read_text`."""
    for number, line in enumerate(read_text(path, **text).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{path}, line {number} is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise DatasetError(f"{path}, line {number} holds {_kind(value)}; expected an object")
        yield number, value


def read_csv(
    path: Path, columns: Iterable[str], delimiter: str = ",", advice: str = "save it with commas", **text: Any
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number, from 1, and fields by column of every row; LF or CRLF, quoted fields may hold line ends.

    Args:
        columns: columns that must be there; others are kept too.
        delimiter: between fields; a first line of ``sep=;``, which spreadsheets write, goes before it.
        advice: what to do about another delimiter; ``{}`` stands for the one that it seems to have.
        text: as for :func:`read_text`.
    """
    # Not str.splitlines: a sentence may hold U+2028 and its like, which end no line of a CSV file.
    lines = io.StringIO(read_text(path, **text), newline="")
    before = 0
    if said := re.fullmatch(r"\"?sep=(.)\"?\n?", lines.readline()):
        delimiter, before = said.group(1), 1
    else:
        lines.seek(0)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            line = reader.line_num + before
            if not any(map(str.strip, cells)):
                continue  # spreadsheets leave rows of delimiters alone, and columns without a name
            if header is None:
                header = [cell.strip() for cell in cells]
                other = likely_delimiter(delimiter.join(cells), columns, delimiter)
                seen = f"; it looks {other[1]}-separated: {advice.format(repr(other[0]))}" if other else ""
                _check_header(path, header, columns, seen)
                continue
            if len(cells) != len(header):
                raise DatasetError(
                    f"{path}, line {line} has {len(cells)} fields; the header has {len(header)}"
                )
            yield line, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DatasetError(f"{path}, line {reader.line_num + before} is not CSV: {error}") from None
    if header is None:
        raise DatasetError(f"{path} is empty; expected a header with the columns {', '.join(columns)}")


def read_parquet(path: Path, columns: Iterable[str]) -> Any:
    """A parquet file as a pyarrow table; `columns` must be there."""
    pq = need("pyarrow.parquet", "data")
    arrow = need("pyarrow", "data")
    try:
        # Not mapped: a mapped file that is shortened meanwhile ends the process.
        table = pq.read_table(os.fspath(path), memory_map=False)
    except (arrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path} is not a parquet file that can be read: {error}") from None
    try:
        names = table.column_names
    except UnicodeDecodeError:
        raise DatasetError(f"{path} has a column whose name is not UTF-8 text") from None
    _check_header(path, names, columns)
    return table


def field(record: Any, name: str, kind: type[Row] | tuple[type[Any], ...], where: str) -> Row:
    """A field of a record, checked.

    Args:
        kind: ``str``, ``int``, ``list`` and so on; a bool is no int here.
        where: file and record, as ``"refs.json, record 3"``.
    """
    if not isinstance(record, dict):
        raise DatasetError(f"{where} is {_kind(record)}; expected an object")
    if name not in record:
        raise DatasetError(f"{where} has no field {name!r}; it has {', '.join(map(str, record)) or 'none'}")
    value: Any = record[name]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if int in kinds and float not in kinds and isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers of which one was missing, as pandas writes it
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(k.__name__ for k in kinds)
        raise DatasetError(f"{where}: {name} is {_shown(value)}; expected {wanted}")
    return value


def whole_number(text: str, what: str, expected: str = "a whole number", most: int = 18) -> int:
    """A cell of digits as a number; pandas writes ``1.0`` where another cell of the column is empty.

    Args:
        what: file, line and column, for the message.
        most: digits that it may have.
    """
    digits = without_point(text)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= most):
        raise DatasetError(f"{what} is {text[:40]!r}; expected {expected}")
    return int(digits)


def without_point(text: str) -> str:
    """A cell stripped; of ``1.0``, as pandas writes a whole number, ``1``."""
    return re.sub(r"(?<=[0-9])\.0*$", "", text.strip())


def item(
    where: str, key: str, images: Sequence[Any], texts: Sequence[str], match: Any, **more: Any
) -> MatchItem:
    """A :class:`MatchItem`; what is wrong with it is said with file and record."""
    try:
        return MatchItem(key, images, texts, match, **more)
    except DatasetError as error:
        raise DatasetError(f"{where}: {error}") from None


def _check_header(path: Path, header: Sequence[str], columns: Iterable[str], hint: str = "") -> None:
    twice = {column for column in header if column and list(header).count(column) > 1}
    if twice:
        raise DatasetError(f"{path} has the column {sorted(twice)[0]!r} twice")
    absent = [column for column in columns if column not in header]
    if absent:
        more = hint or several(absent, header)
        raise DatasetError(
            f"{path} has no column {', '.join(map(repr, absent))}; it has {', '.join(header)}{more}"
        )


def several(absent: Sequence[str], there: Iterable[str]) -> str:
    """What is said where a column that is not there is the names of several that are."""
    parts = [part.strip() for part in absent[0].split(",")]
    if len(parts) < 2 or not set(parts) <= set(there):
        return ""
    return f"; several columns are given as a list: {parts}"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _shown(value: Any) -> str:
    return reprlib.repr(value)  # bounded in length and depth
