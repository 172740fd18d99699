"""Tables of one image, one text and whether they match: rows of the same key make an item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from discffusion.data.files import item
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.data.left_out import LeftOut, NoImageError, NoTextError
from discffusion.data.options import chosen
from discffusion.data.present import keep_present
from discffusion.data.tables.cells import EmbeddedImage, Rows
from discffusion.data.tables.roles import HINT, Files, Roles, cell_images, cell_label, cell_texts, keys
from discffusion.errors import DatasetError

__all__ = ["labelled_items"]


@dataclass
class _Group:
    """What the rows of one key say. Images by path, or by digest where the table holds them."""

    where: str
    key: str
    group: str | None
    images: dict[str, int] = field(default_factory=dict)  # to the number of the first row that has it
    paths: list[str] = field(default_factory=list)
    texts: dict[str, None] = field(default_factory=dict)
    labels: dict[tuple[str, str], bool] = field(default_factory=dict)
    lack: DatasetError | None = None  # of the first of its rows that lacks a text or an image


def labelled_items(
    name: str,
    rows: Rows,
    roles: Roles,
    files: Files,
    subset: str | None,
    allow_missing: bool,
    about: Mapping[str, Any],
    folder: Path | None,
) -> Dataset[Any]:
    """Items of the images and texts of a key, in the order of the table. A key of which a row lacks its text is none.

    Without a key column every row is an item of its own, which has nothing to be compared with: then the metric is
    ``calibration``, the score against the labels of the whole table.

    Raises:
        DatasetError: a pair of a key has no label, or two that differ.
    """
    assert roles.label is not None
    groups: dict[str, _Group] = {}
    for number, cells, where, key, category in keys(rows, roles, unique=False):
        one = groups.setdefault(key, _Group(where, key, category))
        if one.group != category:
            raise DatasetError(
                f"{where}: the group is {category!r}, and {one.group!r} in {one.where} of the same key"
            )
        try:
            image, path = _image(rows, cells, number, roles, where)
            texts = cell_texts(cells, roles.text[0], where)
        except (NoTextError, NoImageError) as error:
            one.lack = one.lack or error
            continue
        text = _single(texts, roles.text[0], where)
        label = cell_label(cells, roles.label, where)
        if one.labels.setdefault((image, text), label) != label:
            raise DatasetError(f"{where}: this image and text of the key {key!r} had the other label before")
        if image not in one.images and path is not None:
            one.paths.append(path)
        one.images.setdefault(image, number)
        one.texts.setdefault(text)
    for one in groups.values():
        if one.lack is not None:
            continue
        lacking = [pair for pair in ((i, t) for i in one.images for t in one.texts) if pair not in one.labels]
        if lacking:
            raise DatasetError(
                f"{one.where}: the key {one.key!r} has {len(one.images)} images and {len(one.texts)} texts, and "
                f"{len(lacking)} of their pairs no row, as {lacking[0]}"
            )
    everything = list(groups.values())
    if subset is not None:
        chosen(name, "subset", subset, sorted({one.group for one in everything if one.group is not None}))
        everything = [one for one in everything if one.group == subset]
    left = LeftOut(name, folder, allow_missing)
    items = []
    for one in everything:
        with left.unless_whole():
            if one.lack is not None:
                raise one.lack
            items.append(one)
    left.check(items)
    if not items:
        raise DatasetError(f"{name} holds no rows")
    kept, missing = keep_present(
        items,
        lambda one: [(path, files.find(path)) for path in one.paths],
        name=name,
        hint=HINT,
        allow_missing=allow_missing,
    )

    def build(one: _Group) -> MatchItem:
        cells = [rows.row(number) for number in one.images.values()]
        opened = [files.open(cell_images(row, roles.image[0], one.where)[0]) for row in cells]
        match = np.array([[one.labels[image, text] for text in one.texts] for image in one.images])
        meta = {"images": [reference for _, reference in opened]}
        meta |= {column: cells[0][column] for column in roles.meta}
        images = [image for image, _ in opened]
        return item(one.where, one.key, images, list(one.texts), match, group=one.group, meta=meta)

    return Dataset(
        name,
        kept,
        build,
        metrics=("accuracy", "acc@1") if roles.key else ("calibration",),
        expected=len(items) + len(left),
        missing=missing,
        about={**about, "notes": left.notes(len(items))} if left else about,
    )


def _image(
    rows: Rows, cells: Mapping[str, Any], number: int, roles: Roles, where: str
) -> tuple[str, str | None]:
    """What identifies the row's image, and its path if it is a file."""
    image = _single(cell_images(cells, roles.image[0], where), roles.image[0], where)
    if isinstance(image, str):
        return image, image
    # the pixels themselves were left out of the scan
    real = cell_images(rows.row(number), roles.image[0], where)[0]
    return (real.reference() if isinstance(real, EmbeddedImage) else real), None


def _single(values: list[Any], column: str, where: str) -> Any:
    if len(values) != 1:
        raise DatasetError(f"{where}: {column} holds {len(values)} values; with label= a row holds one")
    return values[0]
