"""Rows of tables, one at a time, with pixels read only when an item is asked for."""

from __future__ import annotations

import hashlib
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from discffusion._extras import need
from discffusion.data.files import read_parquet
from discffusion.data.left_out import NoImageError, is_blank
from discffusion.errors import DatasetError

__all__ = ["ArrowRows", "EmbeddedImage", "ListedRows", "ParquetRows", "Rows", "as_image"]

_BATCH = 256
_PIXELS = b"\0"  # stands for an embedded image in a row that was only scanned


class EmbeddedImage(NamedTuple):
    """An image that is in the table itself: an encoded file or a PIL image, and the name it came with."""

    image: Any
    name: str | None

    def reference(self) -> str:
        """The image's identity, wherever its row stands: a digest of its contents."""
        data = (
            self.image
            if isinstance(self.image, bytes)
            else self.image.tobytes() + str(self.image.size).encode()
        )
        return f"sha256:{hashlib.sha256(data).hexdigest()[:16]}"


class Rows(Protocol):
    """What a table offers. Rows count from 0."""

    columns: Sequence[str]

    def __len__(self) -> int: ...

    def where(self, number: int) -> str:
        """File and row, for messages."""
        ...

    def row(self, number: int) -> Mapping[str, Any]:
        """The cells of a row by column."""
        ...

    def scan(self) -> Iterator[Mapping[str, Any]]:
        """Every row in turn; where there are pixels, something may stand in for them."""
        ...


class ListedRows:
    """Rows that are in memory.

    Args:
        rows: cells by column, and where the row stands.
    """

    def __init__(self, columns: Sequence[str], rows: Sequence[tuple[Mapping[str, Any], str]]) -> None:
        self.columns, self._rows = columns, rows

    def __len__(self) -> int:
        return len(self._rows)

    def where(self, number: int) -> str:
        return self._rows[number][1]

    def row(self, number: int) -> Mapping[str, Any]:
        return self._rows[number][0]

    def scan(self) -> Iterator[Mapping[str, Any]]:
        return (cells for cells, _ in self._rows)


class ArrowRows:
    """Rows of Arrow tables, which need not be in memory.

    Args:
        count: of rows.
        fetch: the rows from the first number to before the second, as an Arrow table.
    """

    def __init__(
        self, name: str, columns: Sequence[str], count: int, fetch: Callable[[int, int], Any]
    ) -> None:
        self.columns = columns
        self._name, self._count, self._fetch = name, count, fetch

    def __len__(self) -> int:
        return self._count

    def where(self, number: int) -> str:
        return f"{self._name}, row {number}"

    def row(self, number: int) -> Mapping[str, Any]:
        table = self._fetch(number, number + 1)
        return {name: self._cell(table.column(name)[0], number, name) for name in self.columns}

    def scan(self) -> Iterator[Mapping[str, Any]]:
        for start in range(0, self._count, _BATCH):
            table = self._fetch(start, min(start + _BATCH, self._count))
            columns = [(name, table.column(name)) for name in self.columns]
            for place in range(table.num_rows):
                yield {name: self._cell(cells[place], start + place, name, True) for name, cells in columns}

    def _cell(self, scalar: Any, number: int, column: str, light: bool = False) -> Any:
        try:
            return _light(scalar) if light else scalar.as_py()
        except UnicodeDecodeError as error:
            raise DatasetError(
                f"{self.where(number)}: {column} is not UTF-8 text (byte {error.start})"
            ) from None


class ParquetRows(ArrowRows):
    """Rows of parquet files, one file after the other.

    Args:
        columns: what is read; all files must have these.
        optional: what is read too where all files have it.
    """

    def __init__(self, paths: Sequence[Path], columns: Sequence[str], optional: Sequence[str] = ()) -> None:
        tables = [read_parquet(path, columns) for path in paths]
        more = [name for name in optional if all(name in table.column_names for table in tables)]
        used = [*columns, *more]
        self._paths, self._tables = paths, [table.select(used) for table in tables]
        self._ends = [0]
        for table in tables:
            self._ends.append(self._ends[-1] + table.num_rows)
        super().__init__("", used, self._ends[-1], self._slice)

    def where(self, number: int) -> str:
        file = bisect_right(self._ends, number) - 1
        return f"{self._paths[file]}, row {number - self._ends[file]}"

    def _slice(self, start: int, stop: int) -> Any:
        arrow = need("pyarrow", "data")
        parts = [
            table.slice(max(start - low, 0), min(stop, high) - max(start, low))
            for table, low, high in zip(self._tables, self._ends, self._ends[1:], strict=False)
            if start < high and stop > low
        ]
        return parts[0] if len(parts) == 1 else arrow.concat_tables(parts, promote_options="permissive")


def as_image(value: Any, where: str) -> str | EmbeddedImage:
    """A cell as an image: the path that it names, or the image that it holds.

    Understood are a path, the bytes of an encoded file, a dict of ``bytes`` and ``path`` (as the library datasets
    stores images) and a PIL image.
    """
    if isinstance(value, Mapping) and ("bytes" in value or "path" in value):
        name, data = value.get("path"), value.get("bytes")
        if isinstance(data, bytes | bytearray) and len(data) > 0:
            return EmbeddedImage(bytes(data), name if isinstance(name, str) else None)
        value = name
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bytes | bytearray) and len(value) > 0:
        return EmbeddedImage(bytes(value), None)
    if isinstance(value, str) and value.strip():
        path = value.strip()
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", path):
            raise DatasetError(f"{where} is the URL {path[:80]!r}, and nothing is fetched: download it first")
        return path
    if hasattr(value, "convert") and hasattr(value, "tobytes"):
        return EmbeddedImage(value, getattr(value, "filename", None) or None)
    if is_blank(value) or isinstance(value, str | bytes | bytearray):
        raise NoImageError(f"{where} is empty; expected an image")
    raise DatasetError(f"{where} is {type(value).__name__}; expected a path, bytes or a PIL image")


def _light(scalar: Any) -> Any:
    """The value of an Arrow cell without the bytes in it, which may be megabytes."""
    types = need("pyarrow", "data").types
    kind = scalar.type
    if not scalar.is_valid:
        return None
    if types.is_binary(kind) or types.is_large_binary(kind):
        return _PIXELS if len(scalar.as_buffer()) else b""
    if types.is_struct(kind):
        return {name: _light(scalar[name]) for name in scalar}
    if types.is_list(kind) or types.is_large_list(kind):
        return [_light(part) for part in scalar.values]
    return scalar.as_py()
