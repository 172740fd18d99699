"""Winoground: two images and two captions of the same words in another order, four pairs of which two match."""

from __future__ import annotations

from typing import Any

import numpy as np

from discffusion.data.files import folder, item
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.data.left_out import LeftOut
from discffusion.data.options import chosen, image_folder
from discffusion.data.present import keep_present
from discffusion.data.sources import ImageLocation, ImageStore
from discffusion.data.tables.cells import EmbeddedImage, ParquetRows, as_image
from discffusion.data.winoground.files import EXPECTED, IMAGES, TEXTS, Row, read, tag_file, with_hard_tags

__all__ = ["COUNT", "load"]

#: items as published
COUNT = 400
_HINT = (
    "Fetch images.zip of facebook/winoground (it is gated: accept its terms on the Hub) into data/ below the root, or "
    "unpack it into images/ there; or give the folder of the images as image_root="
)


def load(
    root: Any = None,
    split: str = "test",
    subset: str | None = None,
    allow_missing: bool = False,
    image_root: Any = None,
    hard_tags: Any = None,
) -> Dataset[Row]:
    """The dataset ``winoground``: 2 images and 2 texts an item; image 0 belongs to text 0, image 1 to text 1.

    Read are, whichever is there first: the original ``examples.jsonl`` (image names without an extension) with
    ``images.zip``, which is not unpacked, or a folder of images; a ``metadata.csv`` with relative paths, which may
    lie beside the jsonl file; parquet files with the images in them. Items are grouped by ``collapsed_tag``.

    Args:
        root: folder of the files, or the one that holds ``data``.
        split: ``"test"``, the only one.
        subset: a ``collapsed_tag`` (``"Object"``, ``"Relation"``, ``"Both"``) or one of the further tags; None for all.
        allow_missing: leave items out whose images are not there. Items that lack a text are left out and counted in
            ``about["notes"]``.
        image_root: folder of the images where that is not `root`.
        hard_tags: json file ``{id: [tags]}`` of "Why is Winoground hard?"; found by itself as
            ``why_winoground_hard.json`` or ``new_tag_assignments.json`` in `root`. Kept in ``meta["hard_tags"]``.

    Raises:
        DatasetError: a file, record or image is missing or malformed, or an option is unknown.
    """
    base = folder(root, "winoground", EXPECTED)
    chosen("winoground", "split", split, ["test"])
    store = ImageStore(
        image_folder(base, image_root, "winoground"),
        ("", "images", "data/images", "data"),
        ("images.zip", "data/images.zip"),
        ("", ".png", ".jpg", ".jpeg", ".webp"),
    )
    rows, held = read(base, store)
    rows = with_hard_tags(rows, tag_file(base, hard_tags))
    notes = [] if len(rows) == COUNT else [f"{len(rows)} items; the published dataset has {COUNT}"]
    if subset is not None:
        subsets = sorted({tag for row in rows for tag in _subsets(row)})
        chosen("winoground", "subset", subset, subsets)
        rows = [row for row in rows if subset in _subsets(row)]
    left = LeftOut("winoground", base)
    rows = left.with_texts(
        rows, lambda row: row.where, lambda row: dict(zip(TEXTS, row.captions, strict=True))
    )
    notes += left.notes(len(rows))
    kept, missing = keep_present(
        rows,
        lambda row: [
            (name, place and place.file)
            for name, place in zip(
                row.references, row.places or (ImageLocation(""), ImageLocation("")), strict=True
            )
        ],
        name="winoground",
        hint=_HINT,
        allow_missing=allow_missing,
    )

    def build(row: Row) -> MatchItem:
        if row.places is None:
            images = [_pixels(cell) for cell in _cells(held, row)]
        else:
            images = [store.open(place) for place in row.places if place is not None]
        meta = {"images": list(row.references), "id": row.id, **row.tags}
        key = f"winoground/{row.id}"
        eye = np.eye(2, dtype=bool)
        return item(
            row.where, key, images, list(row.captions), eye, group=row.tags.get("collapsed_tag"), meta=meta
        )

    about = {"split": split, "subset": subset, "notes": notes}
    return Dataset(
        "winoground",
        kept,
        build,
        metrics=("winoground", "accuracy"),
        expected=len(rows) + len(left),
        missing=missing,
        about=about,
    )


def _cells(held: ParquetRows | None, row: Row) -> list[str | EmbeddedImage]:
    assert held is not None
    cells = held.row(row.number)
    return [as_image(cells[name], f"{row.where}: {name}") for name in IMAGES]


def _pixels(cell: str | EmbeddedImage) -> Any:
    assert isinstance(cell, EmbeddedImage)
    return cell.image


def _subsets(row: Row) -> list[str]:
    collapsed = row.tags.get("collapsed_tag")
    return [*([collapsed] if collapsed else []), *row.tags.get("hard_tags", [])]
