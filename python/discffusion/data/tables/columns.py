"""From named columns to items: the one place where a table's layout is understood, wherever the table comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from discffusion.data.captions import TASKS, Captioned, of_task
from discffusion.data.files import item, several
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.data.left_out import LeftOut, NoImageError, NoTextError, is_blank
from discffusion.data.options import chosen
from discffusion.data.order import ORDER, in_drawn_order
from discffusion.data.present import keep_present
from discffusion.data.tables.cells import EmbeddedImage, Rows
from discffusion.data.tables.labelled import labelled_items
from discffusion.data.tables.roles import HINT, Files, Roles, cell_images, cell_texts, keys
from discffusion.errors import DatasetError, DatasetOptionError

__all__ = ["from_columns"]


class _Row(NamedTuple):
    number: int
    key: str
    group: str | None
    paths: tuple[str, ...]  # of the images that are files


class _Cells(NamedTuple):
    """What a row holds: images and texts that belong together, and those that do not belong to them."""

    images: list[str | EmbeddedImage]
    texts: list[str]
    other_images: list[str | EmbeddedImage]
    other_texts: list[str]


def from_columns(
    name: str,
    rows: Rows,
    roles: Roles,
    *,
    root: Path | None,
    subset: str | None = None,
    task: str | None = None,
    allow_missing: bool = False,
    about: Mapping[str, Any],
    folder: Path | None = None,
) -> Dataset[Any]:
    """The dataset that the columns describe; its metrics follow from the layout.

    Items that lack a text are left out and counted in ``about["notes"]``.

    Args:
        name: the table, for messages.
        root: folder that relative paths start from; None for the current one.
        subset: only rows of this group.
        task: ``"retrieval"`` or ``"pretraining"`` (the default) where rows hold images and texts that match and no
            others; see :func:`discffusion.data.captions.of_task`.
        folder: that of the table, which notes need not repeat.

    Raises:
        DatasetError: a column is not there, a cell is not what its column is for, or images are missing.
    """
    absent = [column for column in roles.columns() if column not in rows.columns]
    if absent:
        there = ", ".join(rows.columns) or "none"
        raise DatasetError(
            f"{name} has no column {', '.join(map(repr, absent))}; it has {there}{several(absent, rows.columns)}"
        )
    if task is not None:
        chosen(name, "task", task, TASKS)
        if not roles.plain:
            raise DatasetOptionError(
                f"{name}: task={task!r} takes images and texts that match, without label or negatives"
            )
    if subset is not None and roles.group is None:
        raise DatasetOptionError(
            f"{name}: subset={subset!r} needs group=, the column that tells the subsets apart"
        )
    files = Files(Path() if root is None else root)
    about = {
        "subset": subset,
        **about,
        "roles": {role: used for role, used in roles._asdict().items() if used},
    }
    if roles.label:
        return labelled_items(name, rows, roles, files, subset, allow_missing, about, folder)

    listed = []
    left = LeftOut(name, folder, allow_missing)
    groups = set[str]()
    blanks = 0
    for number, cells, where, key, group in keys(rows, roles, unique=True):
        groups.update([group] if group is not None else [])
        with left.unless_whole(counts=subset in (None, group)):
            read = _read(cells, roles, where)
            paths = (image for image in (*read.images, *read.other_images) if isinstance(image, str))
            listed.append(_Row(number, key, group, tuple(paths)))
            blanks += _blanks(cells, roles)
    if subset is not None:
        chosen(name, "subset", subset, sorted(groups))
        listed = [row for row in listed if row.group == subset]
    left.check(listed)
    if not listed:
        raise DatasetError(f"{name} holds no rows")
    notes = left.notes(len(listed))
    if blanks:
        notes.append(f"{blanks} blank texts that stand beside others are passed over")
    if notes:
        about["notes"] = notes
    kept, missing = keep_present(
        listed,
        lambda row: [(path, files.find(path)) for path in row.paths],
        name=name,
        hint=HINT,
        allow_missing=allow_missing,
    )
    if roles.plain:
        return _captions(
            name, rows, roles, files, task or "pretraining", listed, kept, missing, about, len(left)
        )

    def build(row: _Row) -> MatchItem:
        cells, where = rows.row(row.number), rows.where(row.number)
        images, texts, match = _arranged(_read(cells, roles, where), roles, row.key)
        opened = [files.open(image) for image in images]
        meta = {"images": [reference for _, reference in opened]}
        meta |= {column: cells[column] for column in roles.meta}
        return item(where, row.key, [image for image, _ in opened], texts, match, group=row.group, meta=meta)

    metrics = ("accuracy", "acc@1") if not roles.paired else ("accuracy",)
    return Dataset(
        name,
        kept,
        build,
        metrics=("winoground", "accuracy") if len(roles.image) == len(roles.text) == 2 else metrics,
        expected=len(listed) + len(left),
        missing=missing,
        about={**about, "order": ORDER} if not roles.paired else about,
    )


def _read(cells: Mapping[str, Any], roles: Roles, where: str) -> _Cells:
    images = [image for column in roles.image for image in cell_images(cells, column, where)]
    texts = [text for column in roles.text for text in cell_texts(cells, column, where)]
    if roles.paired and (len(images) != len(roles.image) or len(texts) != len(roles.text)):
        raise DatasetError(f"{where}: {len(images)} images and {len(texts)} texts; expected one a column")
    others = [text for column in roles.negative_texts for text in cell_texts(cells, column, where, True)]
    elsewhere = [
        image for column in roles.negative_images for image in cell_images(cells, column, where, True)
    ]
    if (roles.negative_texts and not others) or (roles.negative_images and not elsewhere):
        columns = ", ".join((*roles.negative_texts, *roles.negative_images))
        kind = NoTextError if roles.negative_texts else NoImageError
        raise kind(f"{where}: {columns} holds nothing; expected at least one negative")
    same = set(texts) & set(others)
    if same:
        raise DatasetError(f"{where}: {min(same)[:80]!r} is both a text that matches and one that does not")
    return _Cells(images, texts, elsewhere, others)


def _blanks(cells: Mapping[str, Any], roles: Roles) -> int:
    """Blanks in lists of matching texts; empty cells of negatives are how a table says that it has fewer."""
    lists = (cells[column] for column in roles.text if isinstance(cells[column], list | tuple))
    return sum(is_blank(text) for texts in lists for text in texts)


def _arranged(
    read: _Cells, roles: Roles, key: str
) -> tuple[list[str | EmbeddedImage], list[str], NDArray[np.bool_]]:
    """Images and texts in the order that an item lists them, and which match."""
    if roles.paired:
        return read.images, read.texts, np.eye(len(read.images), dtype=bool)
    images, right_images = in_drawn_order(key, read.images, read.other_images)
    texts, right_texts = in_drawn_order(key, read.texts, read.other_texts)
    return images, texts, right_images[:, None] & right_texts[None, :]


def _captions(
    name: str,
    rows: Rows,
    roles: Roles,
    files: Files,
    task: str,
    listed: Sequence[_Row],
    kept: Sequence[_Row],
    missing: Sequence[str],
    about: Mapping[str, Any],
    left_out: int,
) -> Dataset[Any]:
    """Rows of images and texts that match; for retrieval, rows of the same image are one."""
    merged: dict[str, Captioned] = {}
    numbers, present = {row.number for row in listed}, {row.number for row in kept}
    for number, cells, where, key, _ in keys(rows, roles, unique=True):
        if number not in numbers:
            continue
        read = _read(cells, roles, where)
        if len(read.images) != 1:
            raise DatasetError(f"{where}: {len(read.images)} images; without negatives, a row holds one")
        identity = key
        if task == "retrieval":
            # the pixels were left out of the scan; an image that stands in several rows is known by them alone
            image = read.images[0]
            image = image if isinstance(image, str) else _read(rows.row(number), roles, where).images[0]
            identity = files.open(image)[1]
        one = merged.setdefault(identity, Captioned(where, key, number, []))
        merged[identity] = one._replace(captions=[*one.captions, *read.texts])
    images = list(merged.values())

    def fetch(one: Captioned) -> tuple[Any, str]:
        return files.open(cell_images(rows.row(one.image), roles.image[0], one.where)[0])

    return of_task(
        name,
        task,
        [one for one in images if one.image in present],
        fetch,
        listed=images,
        missing=missing,
        about=about,
        # an image of several rows is still there when one of them says nothing
        left_out=left_out if task == "pretraining" else 0,
    )
