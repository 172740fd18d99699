"""Tables of the user's own: csv, tsv, json, jsonl or parquet, with columns named by the caller."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from discffusion.data.guesses import checked_delimiter, checked_encoding
from discffusion.data.lazy import Dataset
from discffusion.data.options import image_folder
from discffusion.data.splits import files_of
from discffusion.data.tables.columns import from_columns
from discffusion.data.tables.reading import KINDS, rows_in
from discffusion.data.tables.roles import Roles
from discffusion.errors import DatasetError, DatasetOptionError

__all__ = ["KINDS", "load"]


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
    delimiter: str | None = None,
    encoding: str | None = None,
) -> Dataset[Any]:
    """The dataset ``table``. Rows can be laid out in several ways:

    - an image, texts that match and texts that do not (``image=``, ``text=``, ``negative_texts=``);
    - a text, images that match and images that do not (``text=``, ``image=``, ``negative_images=``);
    - several images with a text each (``image=["image_0", "image_1"], text=["caption_0", "caption_1"]``);
    - an image, a text and whether they match (``label=``); rows of one ``key=`` make an item;
    - an image and its captions, for ``task="retrieval"`` or ``"pretraining"``; rows of one image are put together.

    Image cells hold a path (relative to `image_root`, absolute, or from ``~``), or in parquet the bytes of a file or a
    struct of bytes and path. Positives and negatives are listed in the order of :data:`discffusion.data.order.ORDER`.
    An item that lacks a text (an empty cell, null, white space) is left out and counted in ``about["notes"]``.

    Args:
        root: the file, or a folder with one such file, or with one for every split. A ``.json`` file holds a list of
            objects, an object of columns, or an object of records by key.
        split: name of the file without its extension, where `root` is a folder; ``"test"`` for
            ``test-00000-of-00002.parquet`` and so on, there or in the folder ``data``, too.
        subset: only the rows of this group.
        image, text, negative_texts, negative_images, label, key, group, meta: names of columns; see
            :class:`discffusion.data.tables.roles.Roles`.
        task: what to make of rows without negatives; None for pre-training.
        allow_missing: leave items out whose images are not there.
        image_root: folder that relative paths start from; None for that of the file.
        delimiter: between the fields of a csv file, as ``";"`` or ``"tab"``; None for a comma, and a tab in ``.tsv``.
        encoding: of a text file, as ``"cp1252"`` or ``"utf-16"``; None for UTF-8.

    Raises:
        DatasetError: the file, a column, row or image is missing or malformed, or an option is unknown.
        InstallationError: a parquet file is to be read and pyarrow is not installed.
    """
    paths = _files(root, split)
    path = paths[0]
    delimiter = None if delimiter is None else checked_delimiter(delimiter)
    encoding = None if encoding is None else checked_encoding(encoding)
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
        f"table {path.name}",  # wherever it lies: rows know texts and images by their contents
        rows_in(paths, roles.columns(), delimiter, encoding),
        roles,
        root=image_folder(path.parent, image_root, "table"),
        subset=subset,
        task=task,
        allow_missing=allow_missing,
        about={"file": path.name} if len(paths) == 1 else {"file": path.name, "files": len(paths)},
        folder=path.parent,
    )


def _files(root: Any, split: str | None) -> list[Path]:
    if not isinstance(root, str | Path) or not str(root):
        raise DatasetOptionError(
            f"table needs root=, a file ({', '.join(KINDS)}) or its folder; got {root!r}"
        )
    path = Path(root).expanduser()
    if path.is_file():
        if split is not None:
            raise DatasetOptionError(f"table: split={split!r} is for a folder of files; {path} is one file")
        if path.suffix.lower() not in KINDS:
            raise DatasetError(f"table: {path} is not one of {', '.join(KINDS)}, by its name")
        return [path]
    if not path.is_dir():
        raise DatasetError(f"table: there is no file or folder {path}")
    return files_of(path, split, KINDS, "table")
