"""The annotation files of RefCOCOg, joined and checked: what was said of which box in which image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from discffusion.data.archives.refs_pickle import read_plain_pickle
from discffusion.data.files import field, read_json
from discffusion.data.left_out import text_field
from discffusion.errors import DatasetError

__all__ = ["Object", "Sentence", "objects", "plain_text", "sentences"]


class Sentence(NamedTuple):
    """One referring expression."""

    ref_id: int
    sent_id: int
    ann_id: int
    image_id: int
    split: str
    text: str  # as it was typed, without blanks around it
    where: str


class Object(NamedTuple):
    """What an expression refers to."""

    file_name: str
    size: tuple[int, int]  # width, height of the image
    box: tuple[float, ...]  # x, y, width, height in its pixels
    category: str


def plain_text(text: str) -> str:
    """A sentence as it is compared with others: without regard to case and blanks."""
    return " ".join(text.casefold().split())


def sentences(path: Path) -> tuple[list[Sentence], int]:
    """All sentences of ``refs(umd).p`` or ``refs(google).p`` in their order, and how many were left out as empty."""
    refs = read_plain_pickle(path)
    if not isinstance(refs, list):
        raise DatasetError(f"{path} holds a {type(refs).__name__}; expected a list of refs")
    rows: list[Sentence] = []
    seen = set[tuple[int, int]]()
    empty = 0
    for number, ref in enumerate(refs):
        where = f"{path}, ref {number}"
        ref_id, ann_id, image_id = (field(ref, name, int, where) for name in ("ref_id", "ann_id", "image_id"))
        split = field(ref, "split", str, where)
        said = field(ref, "sentences", list, where)
        if not said:
            raise DatasetError(f"{where} (ref_id {ref_id}) has no sentences")
        for place, sentence in enumerate(said):
            spot = f"{where}, sentence {place}"
            sent_id, text = field(sentence, "sent_id", int, spot), text_field(sentence, "raw", spot).strip()
            if (ref_id, sent_id) in seen:
                raise DatasetError(f"{spot}: ref_id {ref_id} with sent_id {sent_id} occurs twice")
            seen.add((ref_id, sent_id))
            if text:
                rows.append(Sentence(ref_id, sent_id, ann_id, image_id, split, text, where))
            else:
                empty += 1
    return rows, empty


def objects(path: Path, wanted: list[Sentence]) -> dict[int, Object]:
    """The objects that sentences refer to, by annotation id, of ``instances.json``."""
    whole = read_json(path, dict)
    tables = {name: _by_id(whole, name, path) for name in ("images", "annotations", "categories")}
    by_id: dict[int, Object] = {}
    for sentence in wanted:
        if sentence.ann_id not in by_id:
            by_id[sentence.ann_id] = _object(tables, sentence, path)
    return by_id


def _by_id(whole: dict[str, Any], name: str, path: Path) -> dict[int, tuple[int, dict[str, Any]]]:
    table: dict[int, tuple[int, dict[str, Any]]] = {}
    for number, record in enumerate(field(whole, name, list, str(path))):
        identity = field(record, "id", int, f"{path}, {name} {number}")
        if identity in table:
            raise DatasetError(f"{path}, {name} {number}: the id {identity} occurs twice")
        table[identity] = (number, record)
    return table


def _object(
    tables: dict[str, dict[int, tuple[int, dict[str, Any]]]], sentence: Sentence, path: Path
) -> Object:
    def record(name: str, identity: int, asked: str) -> tuple[str, dict[str, Any]]:
        if identity not in tables[name]:
            raise DatasetError(f"{asked}: {path} has no {name} record with id {identity}")
        number, value = tables[name][identity]
        return f"{path}, {name} {number}", value

    where, annotation = record("annotations", sentence.ann_id, sentence.where)
    image_id = field(annotation, "image_id", int, where)
    if image_id != sentence.image_id:
        raise DatasetError(
            f"{where} is of image {image_id}; {sentence.where} is of image {sentence.image_id}"
        )
    _, category = record("categories", field(annotation, "category_id", int, where), where)
    # the file names in the refs are of another release of the images; those of instances.json hold
    spot, image = record("images", image_id, where)
    size = (field(image, "width", int, spot), field(image, "height", int, spot))
    return Object(
        field(image, "file_name", str, spot),
        size,
        _box(field(annotation, "bbox", list, where), size, where),
        field(category, "name", str, where),
    )


def _box(values: list[Any], size: tuple[int, int], where: str) -> tuple[float, ...]:
    """x, y, width and height, which lie in the image up to a pixel of rounding."""
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(values) != 4 or len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise DatasetError(f"{where}: bbox is {values!r:.80}; expected x, y, width and height")
    x, y, width, height = numbers
    inside = x >= -1 and y >= -1 and x + width <= size[0] + 1 and y + height <= size[1] + 1
    if width <= 0 or height <= 0 or not inside:
        raise DatasetError(
            f"{where}: bbox {numbers} is empty or exceeds the image of {size[0]} x {size[1]} pixels"
        )
    return tuple(numbers)
