"""Tables of the user's own: csv, tsv, jsonl or parquet, with columns named by the caller."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from discffusion.data.cells import ListedRows, ParquetRows, Rows
from discffusion.data.columns import from_columns
from discffusion.data.files import read_csv, read_jsonl
from discffusion.data.lazy import Dataset
from discffusion.data.options import image_folder
from discffusion.data.roles import Roles
from discffusion.errors import DatasetError

__all__ = ["KINDS", "load"]

#: extensions, and the delimiter where there is one
KINDS = {".csv": ",", ".tsv": "\t", ".jsonl": None, ".ndjson": None, ".parquet": None}


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
    """The dataset ``table``. Rows can be laid out in several ways:

    - an image, texts that match and texts that do not (``image=``, ``text=``, ``negative_texts=``);
    - a text, images that match and images that do not (``text=``, ``image=``, ``negative_images=``);
    - several images with a text each (``image=["image_0", "image_1"], text=["caption_0", "caption_1"]``);
    - an image, a text and whether they match (``label=``); rows of one ``key=`` make an item;
    - an image and its captions, for ``task="retrieval"`` or ``"pretraining"``; rows of one image are put together.

    Image cells hold a path (relative to `image_root`), or in parquet the bytes of a file or a struct of bytes and path.
    Positives and negatives are listed in the order of :data:`discffusion.data.order.ORDER`.

    Args:
        root: the file, or a folder with one such file, or with one for every split.
        split: name of the file without its extension, where `root` is a folder.
        subset: only the rows of this group.
        image, text, negative_texts, negative_images, label, key, group, meta: names of columns; see
            :class:`discffusion.data.roles.Roles`.
        task: what to make of rows without negatives; None for pre-training.
        allow_missing: leave items out whose images are not there.
        image_root: folder that relative paths start from; None for that of the file.

    Raises:
        DatasetError: the file, a column, row or image is missing or malformed, or an option is unknown.
        InstallationError: a parquet file is to be read and pyarrow is not installed.
    """
    path = _file(root, split)
    roles = Roles.checked(
        "table",
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
    return from_columns(
        f"table {path}",
        _rows(path, roles),
        roles,
        root=image_folder(path.parent, image_root, "table"),
        subset=subset,
        task=task,
        allow_missing=allow_missing,
        about={"file": path.name},
    )


def _file(root: Any, split: str | None) -> Path:
    if not isinstance(root, str | Path) or not str(root):
        raise DatasetError(f"table needs root=, a file ({', '.join(KINDS)}) or its folder; got {root!r}")
    path = Path(root).expanduser()
    if path.is_file():
        if split is not None:
            raise DatasetError(f"table: split={split!r} is for a folder of files; {path} is one file")
        if path.suffix.lower() not in KINDS:
            raise DatasetError(f"table: {path} is not one of {', '.join(KINDS)}, by its name")
        return path
    if not path.is_dir():
        raise DatasetError(f"table: there is no file or folder {path}")
    files = {
        file.stem: file for file in sorted(path.iterdir()) if file.suffix.lower() in KINDS and file.is_file()
    }
    if split is None and len(files) == 1:
        return next(iter(files.values()))
    there = ", ".join(files) or "none"
    if split is None:
        raise DatasetError(
            f"table: {path} holds {len(files)} tables, so one has to be named as split=: {there}"
        )
    if split not in files:
        raise DatasetError(f"table: {path} has no split {split!r}; there are: {there}")
    return files[split]


def _rows(path: Path, roles: Roles) -> Rows:
    kind = path.suffix.lower()
    if kind == ".parquet":
        return ParquetRows([path], roles.columns())
    delimiter = KINDS[kind]
    if delimiter is not None:
        lines = list(read_csv(path, roles.columns(), delimiter))
        columns = list(lines[0][1]) if lines else roles.columns()
        return ListedRows(columns, [(cells, f"{path}, line {line}") for line, cells in lines])
    records = []
    for line, record in read_jsonl(path):
        absent = [column for column in roles.columns() if column not in record]
        if absent:
            raise DatasetError(
                f"{path}, line {line} has no field {', '.join(map(repr, absent))}; it has {', '.join(record) or 'none'}"
            )
        records.append((record, f"{path}, line {line}"))
    return ListedRows(roles.columns(), records)
