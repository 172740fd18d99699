"""Datasets of the library datasets: objects, what ``save_to_disk`` left, parquet files. Nothing is fetched."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from discffusion._extras import need
from discffusion.data.files import several
from discffusion.data.lazy import Dataset
from discffusion.data.options import chosen, image_folder
from discffusion.data.splits import files_of, splits_in
from discffusion.data.tables.cells import ArrowRows, ListedRows, ParquetRows, Rows
from discffusion.data.tables.columns import from_columns
from discffusion.data.tables.roles import Roles
from discffusion.errors import DatasetError, DatasetOptionError

__all__ = ["load"]

_PARQUET = ".parquet"
#: what save_to_disk writes beside the rows
_SAVED = ("state.json", "dataset_dict.json")


def load(
    root: Any = None,
    split: str | None = None,
    subset: str | None = None,
    image: str | Sequence[str] = "image",
    text: str | Sequence[str] = "text",
    negative_texts: str | Sequence[str] | None = None,
    negative_images: str | Sequence[str] | None = None,
    label: str | None = None,
    key: str | None = None,
    group: str | None = None,
    meta: str | Sequence[str] | None = None,
    task: str | None = None,
    allow_missing: bool = False,
    image_root: Any = None,
) -> Dataset[Any]:
    """The dataset ``hf``: columns of a ``datasets.Dataset``, laid out in one of the ways of ``table``.

    Images are given on as the encoded files that the dataset holds, where it holds such; nothing is decoded before
    an item is asked for.

    Args:
        root: a ``datasets.Dataset`` or ``DatasetDict``, anything with ``column_names``, ``len`` and an index that
            gives rows as dicts; a folder that ``save_to_disk`` wrote; a folder of parquet files as the Hub has them
            (``data/test-00000-of-00002.parquet``), or such a file.
        split: of a ``DatasetDict``, or of a folder of parquet files.
        subset: only the rows of this group.
        image, text, negative_texts, negative_images, label, key, group, meta: names of columns; see
            :class:`discffusion.data.tables.roles.Roles`. Images may be PIL images, bytes, dicts of bytes and path, or
            paths.
        task: what to make of rows without negatives; None for pre-training.
        allow_missing: leave items out whose images are not there.
        image_root: folder that relative paths start from; None for the current one.

    Raises:
        DatasetError: `root` is nothing of the kind, or a column, row or image is missing or malformed.
        InstallationError: a folder is to be read and the library datasets, or pyarrow, is not installed.
    """
    roles = Roles.checked(
        "hf",
        {
            "image": image,
            "text": text,
            "negative_texts": negative_texts,
            "negative_images": negative_images,
            "label": label,
            "key": key,
            "group": group,
            "meta": meta,
        },
    )
    files = _parquet(root, split)
    rows = ParquetRows(files, roles.columns()) if files else _rows(_split(_opened(root), split), roles)
    return from_columns(
        "hf",
        rows,
        roles,
        root=image_folder(Path(), image_root, "hf"),
        subset=subset,
        task=task,
        allow_missing=allow_missing,
        about={"split": split, "rows": len(rows)},
        folder=files[0].parent if files else None,
    )


def _parquet(root: Any, split: str | None) -> list[Path]:
    """The parquet files of a split, if `root` names such."""
    if not isinstance(root, str | os.PathLike):
        return []
    path = Path(root).expanduser()
    if path.is_file() and path.suffix.lower() == _PARQUET:
        if split is not None:
            raise DatasetOptionError(f"hf: split={split!r} is for a folder; {path} is one file")
        return [path]
    if not path.is_dir() or any((path / name).is_file() for name in _SAVED):
        return []
    return files_of(path, split, (_PARQUET,), "hf") if splits_in(path, (_PARQUET,)) else []


def _opened(root: Any) -> Any:
    if not isinstance(root, str | os.PathLike):
        return root
    path = Path(root).expanduser()
    if not path.is_dir():
        raise DatasetOptionError(
            f"hf: there is no folder {path}; nothing is fetched from the Hub: load it with datasets.load_dataset and "
            "give the object as root="
        )
    datasets = need("datasets", "data")
    try:
        return datasets.load_from_disk(os.fspath(path))
    except (OSError, ValueError, KeyError, TypeError, need("pyarrow", "data").ArrowException) as error:
        raise DatasetError(
            f"hf: {path} is not what save_to_disk writes, and holds no parquet files: {error}"
        ) from None


def _split(data: Any, split: str | None) -> Any:
    if isinstance(data, Mapping):
        if split is None and len(data) != 1:
            raise DatasetOptionError(
                f"hf: a split has to be named as split=; there are: {', '.join(map(str, data))}"
            )
        data = (
            data[chosen("hf", "split", split, list(data))] if split is not None else next(iter(data.values()))
        )
    elif split is not None:
        raise DatasetOptionError(f"hf: split={split!r} is for a DatasetDict; root is {type(data).__name__}")
    if not hasattr(data, "column_names"):
        raise DatasetOptionError(
            f"hf: root is {type(data).__name__}; expected a datasets.Dataset or a folder of one"
        )
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__") and data.column_names):
        raise DatasetError(
            f"hf: {type(data).__name__} has no length, index or column names; a streamed dataset has to be collected "
            "first: datasets.Dataset.from_list(list(stream.take(n)))"
        )
    return data


def _rows(data: Any, roles: Roles) -> Rows:
    used, there = roles.columns(), list(map(str, data.column_names))
    absent = [column for column in used if column not in there]
    if absent:
        raise DatasetError(
            f"hf has no column {', '.join(map(repr, absent))}; it has {', '.join(there) or 'none'}"
            + several(absent, there)
        )
    if hasattr(data, "with_format") and hasattr(data, "select_columns"):
        # as stored: images stay encoded, and only what is asked for leaves the memory map
        plain = data.select_columns(used).with_format("arrow")
        return ArrowRows("hf", used, len(plain), lambda start, stop: plain[start:stop])
    return _Indexed(used, data)


class _Indexed(ListedRows):
    """Rows of anything that gives a dict for an index. Each is read when it is needed, and once when it is opened."""

    def __init__(self, columns: Sequence[str], data: Any) -> None:
        super().__init__(columns, [])
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def where(self, number: int) -> str:
        return f"hf, row {number}"

    def row(self, number: int) -> Mapping[str, Any]:
        cells = self._data[number]
        if not isinstance(cells, Mapping) or any(column not in cells for column in self.columns):
            raise DatasetError(
                f"{self.where(number)} is {str(cells)[:80]}; expected a dict with the named columns"
            )
        return cells

    def scan(self) -> Any:
        return map(self.row, range(len(self)))
