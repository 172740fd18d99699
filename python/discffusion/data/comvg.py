"""Compositional Visual Genome: a sentence and two images, one of which differs in subject, object or predicate."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from discffusion.data.files import folder, item, one_of, read_csv, without_point
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.data.left_out import LeftOut
from discffusion.data.options import chosen, image_folder, leading
from discffusion.data.order import ORDER, in_drawn_order
from discffusion.data.present import Locator, keep_present
from discffusion.errors import DatasetError, DatasetOptionError

__all__ = ["SPLITS", "SUBSETS", "load"]

#: annotation file of every split
SPLITS = {"eval": "compositional_visual_genome.csv", "train": "comvg_train.csv"}
#: what the column ``neg_value`` is called in the paper and here
KINDS = {"subject": "subject", "object": "object", "verb": "predicate"}
SUBSETS = tuple(KINDS.values())
# Visual Genome comes in two parts; vg_concept is the selection that the release of the dataset made of them
_FOLDERS = {
    "eval": ("vg_concept", "VG_100K", "VG_100K_2", ""),
    "train": ("VG_100K", "VG_100K_2", "vg_concept", ""),
}
_COLUMNS = {
    "eval": ("id", "sentence", "pos_triplet", "neg_triplet", "pos_image_id", "neg_image_id", "neg_value"),
    "train": ("sentence", "pos_image_id", "neg_image_id"),
}
_EXPECTED = f"{SPLITS['eval']} (or {SPLITS['train']}) and the folders VG_100K and VG_100K_2, or vg_concept"
_HINT = (
    "Fetch both parts of the images of Visual Genome 1.2; they belong in VG_100K and VG_100K_2 (or vg_concept) below "
    "the root, or below image_root="
)


class _Row(NamedTuple):
    key: str
    where: str
    sentence: str
    positive: str  # image ids
    negative: str
    kind: str | None
    triplets: tuple[tuple[str, ...], tuple[str, ...]] | None


def load(
    root: Any = None,
    split: str = "eval",
    subset: str | None = None,
    fraction: float | None = None,
    allow_missing: bool = False,
    image_root: Any = None,
) -> Dataset[_Row]:
    """The dataset ``comvg``: 1 text and 2 images an item; rows that repeat another are kept, as published.

    Which image comes first depends on the item's key alone, see :data:`discffusion.data.order.ORDER`.
    `about["notes"]` counts what the file repeats and where it contradicts itself.

    Args:
        root: folder of the csv file and of ``VG_100K``, ``VG_100K_2`` or ``vg_concept``, which are all searched.
        split: ``"eval"`` (``compositional_visual_genome.csv``) or ``"train"`` (``comvg_train.csv``).
        subset: ``"subject"``, ``"object"``, ``"predicate"`` or None for all.
        fraction: this share of the file's rows from its beginning, before a subset is taken of them: the release
            trains on 0.05 of ``comvg_train.csv``.
        allow_missing: leave items out whose images are not there. Items that lack their text are left out and counted
            in ``about["notes"]``.
        image_root: folder of the image folders where that is not `root`.

    Raises:
        DatasetError: a file, row or image is missing or malformed, or an option is unknown.
    """
    base = folder(root, "comvg", _EXPECTED)
    chosen("comvg", "split", split, SPLITS)
    if subset is not None:
        chosen("comvg", "subset", subset, SUBSETS)
    path = one_of(base, [SPLITS[split], f"data/{SPLITS[split]}"], f"comvg, split {split!r}")
    rows = list(leading("comvg", _read(path, split), fraction))
    if subset is not None:
        if all(row.kind is None for row in rows):
            raise DatasetOptionError(
                f"{path} has no column 'neg_value', so subset={subset!r} cannot be taken of it"
            )
        rows = [row for row in rows if row.kind == subset]
    left = LeftOut("comvg", path.parent)
    rows = left.with_texts(rows, lambda row: row.where, lambda row: {"sentence": row.sentence})
    if not rows:
        raise DatasetError(f"{path} holds no rows" + (f" of the subset {subset!r}" if subset else ""))

    images = image_folder(base, image_root, "comvg")
    find = Locator(images, _FOLDERS[split])
    places = {name: find(f"{name}.jpg") for row in rows for name in (row.positive, row.negative)}
    kept, missing = keep_present(
        rows,
        lambda row: [(f"{name}.jpg", places[name]) for name in (row.positive, row.negative)],
        name="comvg",
        hint=_HINT,
        allow_missing=allow_missing,
    )

    def build(row: _Row) -> MatchItem:
        names, match = in_drawn_order(row.key, [row.positive], [row.negative])
        there = [str(places[name]) for name in names]
        meta: dict[str, Any] = {"images": there}
        if row.triplets:
            meta["positive_triplet"], meta["negative_triplet"] = map(list, row.triplets)
        paths = [images / place for place in there]
        return item(row.where, row.key, paths, [row.sentence], match[:, None], group=row.kind, meta=meta)

    about: dict[str, Any] = {"split": split, "subset": subset, "fraction": fraction, "order": ORDER}
    about["notes"] = _notes(rows) + left.notes(len(rows))
    expected = len(rows) + len(left)
    return Dataset("comvg", kept, build, expected=expected, missing=missing, about=about)


def _read(path: Path, split: str) -> list[_Row]:
    rows = list[_Row]()
    keys = set[str]()
    for line, cells in read_csv(path, _COLUMNS[split]):
        where = f"{path}, line {line}"
        # a row without an id is known by its place in the file
        name = without_point(cells["id"]) if "id" in cells else f"row-{len(rows) + 1}"
        key = f"comvg/{split}/{name}"
        if not name or key in keys:
            raise DatasetError(f"{where}: the id {name!r} {'occurs twice' if name else 'is empty'}")
        keys.add(key)
        sentence = cells["sentence"].strip()
        positive, negative = (_image(cells[column], where, column) for column in _COLUMNS["train"][1:])
        if positive == negative:
            raise DatasetError(f"{where}: pos_image_id and neg_image_id are the same, {positive}")
        kind = cells.get("neg_value")
        if kind is not None and kind not in KINDS:
            raise DatasetError(f"{where}: neg_value is {kind!r}; expected one of {', '.join(KINDS)}")
        triplets = None
        if split == "eval":
            triplets = _positive(cells["pos_triplet"], where), _negative(cells["neg_triplet"], where)
        rows.append(_Row(key, where, sentence, positive, negative, KINDS[kind] if kind else None, triplets))
    return rows


def _image(text: str, where: str, column: str) -> str:
    name = without_point(text)
    if not (name.isascii() and name.isdigit()):
        raise DatasetError(
            f"{where}: {column} is {text[:40]!r}; expected the number of a Visual Genome image"
        )
    return name


def _positive(text: str, where: str) -> tuple[str, ...]:
    """The triplet in the form ``man,sit,table``, in which the blanks within a word group are lost."""
    parts = tuple(part.strip() for part in text.split(","))
    if len(parts) != 3 or not all(parts):
        raise DatasetError(f"{where}: pos_triplet is {text[:80]!r}; expected subject,predicate,object")
    return parts


def _negative(text: str, where: str) -> tuple[str, ...]:
    """The triplet in the form of a Python tuple of strings; read as a literal, nothing is evaluated."""
    try:
        if len(text) > 1000:
            raise ValueError
        parts = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        parts = None
    if not isinstance(parts, tuple) or len(parts) != 3 or not all(isinstance(part, str) for part in parts):
        raise DatasetError(
            f"{where}: neg_triplet is {text[:80]!r}; expected a tuple of three strings, as ('cat', 'sit', 'table')"
        )
    return parts


def _notes(rows: Sequence[_Row]) -> list[str]:
    pairs = Counter((row.sentence, row.positive, row.negative) for row in rows)
    notes = []
    repeated = len(rows) - len(pairs)
    if repeated:
        notes.append(f"{repeated} of {len(rows)} rows repeat another row; they are kept, as published")
    # strict comparison: of two rows with the images exchanged, one is always wrong
    both = {pair: pairs[(pair[0], pair[2], pair[1])] for pair in pairs}
    contradicted = sum(count for pair, count in pairs.items() if both[pair])
    if contradicted:
        lost = sum(min(count, both[pair]) for pair, count in pairs.items()) // 2
        notes.append(
            f"{contradicted} of {len(rows)} rows contradict another row (the same sentence, the images exchanged), so "
            f"at most {len(rows) - lost} rows can be right"
        )
    return notes
