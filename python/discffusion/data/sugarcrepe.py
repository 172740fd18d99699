"""SugarCrepe: a COCO image, its caption and a hard negative that reads as fluently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from discffusion.data.files import field, folder, item, read_json
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.data.left_out import LeftOut, text_field
from discffusion.data.options import chosen, image_folder
from discffusion.data.order import ORDER, in_drawn_order
from discffusion.data.present import keep_present
from discffusion.data.sources import ImageLocation, ImageStore
from discffusion.errors import DatasetError

__all__ = ["COUNTS", "load"]

#: items of every file as published, 7511 together
COUNTS = {
    "add_att": 692,
    "add_obj": 2062,
    "replace_att": 788,
    "replace_obj": 1652,
    "replace_rel": 1406,
    "swap_att": 666,
    "swap_obj": 245,
}
_KINDS = ("add", "replace", "swap")
_FOLDERS = (
    "val2017",
    "images/val2017",
    "coco/images/val2017",
    "coco/val2017",
    "data/coco/images/val2017",
    "",
)
_HINT = (
    "They are the validation images of COCO 2017 (val2017.zip); they belong in val2017 below the root, or below "
    "image_root="
)


class _Row(NamedTuple):
    where: str
    key: str
    kind: str
    reference: str
    place: ImageLocation | None
    caption: str
    negative: str


def load(
    root: Any = None,
    split: str = "test",
    subset: str | None = None,
    allow_missing: bool = False,
    image_root: Any = None,
) -> Dataset[_Row]:
    """The dataset ``sugarcrepe``: 1 image and 2 texts an item, grouped by file.

    The order of the two texts follows :data:`discffusion.data.order.ORDER`. `about["notes"]` states where the files
    differ from the published counts and what sets positives and negatives apart without an image.

    Args:
        root: folder of the json files, or of the folder ``data`` that holds them, and of ``val2017``.
        split: ``"test"``, the only one.
        subset: a file (``"swap_obj"``), a kind (``"swap"``) or several separated by commas; None for all seven files.
        allow_missing: leave items out whose image is not there. Items that lack a text are left out and counted in
            ``about["notes"]``.
        image_root: folder of the images, or of ``val2017``, where that is not `root`.

    Raises:
        DatasetError: a file, record or image is missing or malformed, or an option is unknown.
    """
    base = folder(root, "sugarcrepe", "the json files of SugarCrepe and the folder val2017")
    chosen("sugarcrepe", "split", split, ["test"])
    store = ImageStore(image_folder(base, image_root, "sugarcrepe"), _FOLDERS)
    kinds = _kinds(subset)
    rows = [row for kind in kinds for row in _read(_file(base, kind), kind, store)]
    left = LeftOut("sugarcrepe", base)
    notes = _notes(kinds, rows)
    rows = left.with_texts(
        rows, lambda row: row.where, lambda row: {"caption": row.caption, "negative_caption": row.negative}
    )
    if not rows:
        raise DatasetError(f"sugarcrepe: the files of {', '.join(kinds)} in {base} hold no items")
    kept, missing = keep_present(
        rows,
        lambda row: [(row.reference, row.place and row.place.file)],
        name="sugarcrepe",
        hint=_HINT,
        allow_missing=allow_missing,
    )

    def build(row: _Row) -> MatchItem:
        texts, right = in_drawn_order(row.key, [row.caption], [row.negative])
        assert row.place is not None
        meta = {"images": [row.reference]}
        return item(
            row.where, row.key, [store.open(row.place)], texts, right[None, :], group=row.kind, meta=meta
        )

    about = {"split": split, "subset": subset, "order": ORDER, "notes": notes + left.notes(len(rows))}
    return Dataset(
        "sugarcrepe",
        kept,
        build,
        metrics=("sugarcrepe", "accuracy"),
        expected=len(rows) + len(left),
        missing=missing,
        about=about,
    )


def _kinds(subset: str | None) -> list[str]:
    if subset is None:
        return list(COUNTS)
    wanted = set[str]()
    for name in subset.split(",") if isinstance(subset, str) else [subset]:
        name = name.strip() if isinstance(name, str) else name
        chosen("sugarcrepe", "subset", name, [*COUNTS, *_KINDS])
        wanted.update(kind for kind in COUNTS if kind == name or kind.startswith(f"{name}_"))
    return [kind for kind in COUNTS if kind in wanted]


def _file(root: Path, kind: str) -> Path:
    for place in (f"{kind}.json", f"data/{kind}.json"):
        if (root / place).is_file():
            return root / place
    there = [
        name for name in COUNTS if (root / f"{name}.json").is_file() or (root / f"data/{name}.json").is_file()
    ]
    advice = f'; there are {", ".join(there)}, so subset="{",".join(there)}" can be read' if there else ""
    raise DatasetError(f"sugarcrepe: {root} holds no {kind}.json{advice}")


def _read(path: Path, kind: str, store: ImageStore) -> list[_Row]:
    rows = []
    # the keys count from 0, with gaps where the publishers took records out
    for number, record in read_json(path, dict).items():
        where = f"{path}, record {number!r}"
        name: str = field(record, "filename", str, where)
        caption = text_field(record, "caption", where)
        negative = text_field(record, "negative_caption", where)
        if not name.strip():
            raise DatasetError(f"{where}: filename is empty")
        key = f"sugarcrepe/{kind}/{number}"
        rows.append(_Row(where, key, kind, f"val2017/{name}", store.find(name), caption, negative))
    return rows


def _notes(kinds: Sequence[str], rows: Sequence[_Row]) -> list[str]:
    notes = []
    for kind in kinds:
        count = sum(row.kind == kind for row in rows)
        if count != COUNTS[kind]:
            notes.append(f"{kind}.json holds {count} items; the published file has {COUNTS[kind]}")
    same = sum(row.caption == row.negative for row in rows)
    if same:
        notes.append(
            f"{same} of {len(rows)} items have the same text twice, so at most the others can be right"
        )
    # a tokenizer that keeps blanks could tell the two apart by them
    blanks = [
        sum(text != text.strip() for text in texts)
        for texts in ([row.caption for row in rows], [row.negative for row in rows])
    ]
    if blanks[0] != blanks[1]:
        notes.append(
            f"{blanks[0]} of {len(rows)} captions and {blanks[1]} negatives begin or end in white space, "
            "as published"
        )
    return notes
