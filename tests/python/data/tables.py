"""Tables written as users keep them: csv with CRLF and a byte order mark, tsv with LF, jsonl, parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]


def as_csv(path: Path, rows: Rows, delimiter: str = ",", ends: str = "\r\n") -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator=ends)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode("utf-8-sig"))
    return path


def as_tsv(path: Path, rows: Rows) -> Path:
    return as_csv(path, rows, "\t", "\n")


def as_jsonl(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def as_parquet(path: Path, rows: Rows) -> Path:
    import pyarrow as arrow
    import pyarrow.parquet as pq

    pq.write_table(arrow.Table.from_pylist(rows), path)
    return path


WRITERS: dict[str, Callable[[Path, Rows], Path]] = {
    "csv": as_csv,
    "tsv": as_tsv,
    "jsonl": as_jsonl,
    "parquet": as_parquet,
}
