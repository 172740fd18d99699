"""The annotation files of Winoground in the three layouts that are in use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from discffusion.data.files import field, read_csv, read_json, read_jsonl, whole_number
from discffusion.data.left_out import text_field
from discffusion.data.sources import ImageLocation, ImageStore
from discffusion.data.tables.cells import EmbeddedImage, ParquetRows, as_image
from discffusion.errors import DatasetError

__all__ = ["EXPECTED", "IMAGES", "TEXTS", "Row", "read", "tag_file", "with_hard_tags"]

EXPECTED = "data/examples.jsonl with images.zip or a folder images, metadata.csv, or data/test-*.parquet"
IMAGES = ("image_0", "image_1")
_JSONL = ("data/examples.jsonl", "examples.jsonl")
_CSV = ("metadata.csv", "data/metadata.csv")
_TAG_FILES = ("why_winoground_hard.json", "new_tag_assignments.json")
TEXTS = ("caption_0", "caption_1")
_NOTHING = ("nan", "none", "null", "na", "n/a", "<na>")
_KINDS = ("tag", "secondary_tag", "collapsed_tag")


class Row(NamedTuple):
    """An item: what its record says, and where its images were found."""

    where: str
    id: int
    references: tuple[str, str]
    places: (
        tuple[ImageLocation | None, ImageLocation | None] | None
    )  # None: the pixels are in the parquet row of this number
    number: int
    captions: tuple[str, str]
    tags: dict[str, Any]


def read(base: Path, store: ImageStore) -> tuple[list[Row], ParquetRows | None]:
    """The rows, and the parquet rows that hold their images, if any do."""
    jsonl = next((base / name for name in _JSONL if (base / name).is_file()), None)
    table = next((base / name for name in _CSV if (base / name).is_file()), None)
    held = None
    if jsonl is not None or table is not None:
        lines = list(_csv_records(table)) if table is not None else []
        records: list[tuple[Mapping[str, Any], str]] = list(lines)
        if jsonl is not None:
            # where both are there, the csv knows where the images lie and the jsonl file the tags
            paths = {record["id"]: {name: record[name] for name in IMAGES} for record, _ in lines}
            annotated = [(record, f"{jsonl}, line {line}") for line, record in read_jsonl(jsonl)]
            records = [
                ({**record, **paths.get(field(record, "id", int, where), {})}, where)
                for record, where in annotated
            ]
        rows = [_row(record, where, number, store) for number, (record, where) in enumerate(records)]
    else:
        files = {*base.glob("data/*.parquet"), *base.glob("*.parquet")}
        if not files:
            raise DatasetError(f"winoground: {base} holds none of {EXPECTED}")
        held = ParquetRows(sorted(files), ["id", *IMAGES, *TEXTS], [*_KINDS, "num_main_preds"])
        rows = [_row(cells, held.where(number), number, store) for number, cells in enumerate(held.scan())]
    seen: dict[int, str] = {}
    for row in rows:
        if row.id in seen:
            raise DatasetError(f"{row.where}: the id {row.id} occurs in {seen[row.id]} already")
        seen[row.id] = row.where
    if not rows:
        raise DatasetError(f"winoground: {jsonl or table or base} holds no items")
    return rows, held


def _csv_records(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    for line, cells in read_csv(path, ["id", *IMAGES, *TEXTS]):
        where = f"{path}, line {line}"
        record: dict[str, Any] = dict(cells)
        record["id"] = whole_number(record["id"], f"{where}: id")
        # as pandas writes a column that lacks some: 1.0, and nothing or nan
        predicates = record.pop("num_main_preds", "").strip()
        if predicates and predicates.lower() not in _NOTHING:
            record["num_main_preds"] = whole_number(predicates, f"{where}: num_main_preds")
        yield record, where


def _row(cells: Mapping[str, Any], where: str, number: int, store: ImageStore) -> Row:
    record = dict(cells)
    captions = tuple(text_field(record, name, where) for name in TEXTS)
    identity: int = field(record, "id", int, where)
    tags: dict[str, Any] = {}
    for name in _KINDS:
        if not _lacks(record.get(name)):
            tags[name] = field(record, name, str, where)
    if not _lacks(record.get("num_main_preds")):
        tags["num_main_preds"] = field(record, "num_main_preds", int, where)
    references, places = [], []
    for place, name in enumerate(IMAGES):
        cell = as_image(record.get(name), f"{where}: {name}")
        if isinstance(cell, EmbeddedImage):
            references.append(f"ex_{identity}_img_{place}.png")
            continue
        location = store.find(cell)
        places.append(location)
        # the same image has the same name in every layout
        last = Path(cell).name
        references.append(last if Path(last).suffix else f"{last}.png")
    if len(places) == 1:
        raise DatasetError(f"{where}: one image is embedded and the other one a path")
    pair = (places[0], places[1]) if places else None
    names = (references[0], references[1])
    return Row(where, identity, names, pair, number, (captions[0], captions[1]), tags)


def _lacks(value: Any) -> bool:
    return value is None or value != value  # NaN


def tag_file(base: Path, given: Any) -> Path | None:
    """The file of "Why is Winoground hard?": what the user gave, or what lies in the root."""
    if given is None:
        return next((base / name for name in _TAG_FILES if (base / name).is_file()), None)
    path = Path(given).expanduser() if isinstance(given, str | Path) else None
    if path is None or not path.is_file():
        raise DatasetError(f"winoground: hard_tags is {str(given)!r}; there is no such file")
    return path


def with_hard_tags(rows: list[Row], path: Path | None) -> list[Row]:
    """Rows with the tags of that file, a json object of id to tags; an id that it lacks has none."""
    if path is None:
        return rows
    content: dict[str, Any] = read_json(path, dict)
    tagged = []
    for row in rows:
        tags = field(content, str(row.id), list, str(path)) if str(row.id) in content else []
        if not all(isinstance(tag, str) for tag in tags):
            raise DatasetError(f"{path}, record {str(row.id)!r}: the tags are {tags!r}; expected strings")
        tagged.append(row._replace(tags={**row.tags, "hard_tags": tags}))
    return tagged
