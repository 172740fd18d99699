"""Winoground in the three layouts that are in use: the same items, whichever is read."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from tests.python.data.published_files import picture, write_json

from discffusion.data import load_dataset
from discffusion.errors import DatasetError

RECORDS: list[dict[str, Any]] = [
    {
        "id": number,
        "image_0": f"ex_{number}_img_0",
        "image_1": f"ex_{number}_img_1",
        "caption_0": f"an old person kisses a young person, {number}",
        "caption_1": f"a young person kisses an old person, {number}",
        "tag": "Adjective-Age",
        "secondary_tag": "",
        "num_main_preds": 1 + number % 2,
        "collapsed_tag": ("Object", "Relation", "Both")[number],
    }
    for number in range(3)
]


def write_lines(path: Path, records: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def images(folder: Path) -> None:
    for number in range(3):
        for place in range(2):
            picture(folder / f"ex_{number}_img_{place}.png", seed=10 * number + place)


def jsonl(root: Path) -> Path:
    write_lines(root / "data" / "examples.jsonl", RECORDS)
    images(root / "images")
    return root


def zipped(root: Path) -> Path:
    write_lines(root / "data" / "examples.jsonl", RECORDS)
    images(root.parent / "loose")
    with zipfile.ZipFile(root / "data" / "images.zip", "w") as archive:
        archive.writestr("images/", "")
        for path in sorted((root.parent / "loose").iterdir()):
            archive.write(path, f"images/{path.name}")
            archive.writestr(f"__MACOSX/images/._{path.name}", b"resource fork")
    return root


def table(root: Path, tags: bool = True, **changes: str) -> Path:
    """The layout that t2v_metrics redistributes: relative paths in a csv, the tags in the jsonl file beside it."""
    images(root / "pictures")
    if tags:
        write_lines(root / "examples.jsonl", RECORDS)
    with (root / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        names = ["id", "image_0", "image_1", "caption_0", "caption_1"]
        writer = csv.DictWriter(file, names, lineterminator="\r\n", extrasaction="ignore")
        writer.writeheader()
        for record in RECORDS:
            paths = {name: f"pictures/{record[name]}.png" for name in ("image_0", "image_1")}
            writer.writerow({**record, **paths, **changes})
    return root


def parquet(root: Path, **changes: Any) -> Path:
    """As the page on the Hub offers it: two files, images as structs of bytes and path."""
    import pyarrow as arrow
    import pyarrow.parquet as pq

    images(root.parent / "loose")
    (root / "data").mkdir(parents=True)
    rows = []
    for record in RECORDS:
        held = {
            name: {
                "bytes": (root.parent / "loose" / f"{record[name]}.png").read_bytes(),
                "path": f"{record[name]}.png",
            }
            for name in ("image_0", "image_1")
        }
        rows.append({**record, **held, **changes})
    pq.write_table(arrow.Table.from_pylist(rows[:2]), root / "data" / "test-00000-of-00002.parquet")
    pq.write_table(arrow.Table.from_pylist(rows[2:]), root / "data" / "test-00001-of-00002.parquet")
    return root


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "jsonl": jsonl,
    "zip": zipped,
    "csv": table,
    "parquet": parquet,
}


def pixels(image: Path | bytes) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
        return np.asarray(opened.convert("RGB"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_holds_the_same_items(layout: str, tmp_path: Path) -> None:
    root = tmp_path / "winoground"
    root.mkdir()
    items = load_dataset("winoground", LAYOUTS[layout](root))
    assert (len(items), items.expected, items.missing) == (3, 3, ())
    assert items.metrics == ("winoground", "accuracy")
    assert items.about == {
        "split": "test",
        "subset": None,
        "notes": ["3 items; the published dataset has 400"],
    }
    for number, item in enumerate(items):
        assert item.key == f"winoground/{number}"
        assert list(item.texts) == [RECORDS[number]["caption_0"], RECORDS[number]["caption_1"]]
        assert item.match.tolist() == [[True, False], [False, True]]
        assert item.group == RECORDS[number]["collapsed_tag"]
        assert item.meta == {
            "images": [f"ex_{number}_img_0.png", f"ex_{number}_img_1.png"],
            "id": number,
            "tag": "Adjective-Age",
            "secondary_tag": "",
            "num_main_preds": 1 + number % 2,
            "collapsed_tag": RECORDS[number]["collapsed_tag"],
        }
        for place, image in enumerate(item.images):
            values = np.random.default_rng(10 * number + place).integers(0, 256, (6, 8, 3), dtype=np.uint8)
            assert (pixels(image) == values).all()


def test_nothing_is_unpacked(tmp_path: Path) -> None:
    root = zipped(tmp_path / "winoground")
    before = sorted(root.rglob("*"))
    items = load_dataset("winoground", root)
    assert all(isinstance(image, bytes) for item in items for image in item.images)
    assert sorted(root.rglob("*")) == before


def test_a_csv_alone_has_no_tags(tmp_path: Path) -> None:
    items = load_dataset("winoground", table(tmp_path, tags=False))
    assert items[0].group is None
    assert items[2].images[1] == tmp_path / "pictures" / "ex_2_img_1.png"
    with pytest.raises(DatasetError, match="no subset 'Object'; there are: none"):
        load_dataset("winoground", tmp_path, subset="Object")


def test_subsets_and_hard_tags(tmp_path: Path) -> None:
    jsonl(tmp_path)
    assert [item.key for item in load_dataset("winoground", tmp_path, subset="Relation")] == ["winoground/1"]
    # the published file has a list for every id; one that it lacks has no tags
    write_json(tmp_path / "new_tag_assignments.json", {"0": [], "2": ["Unusual Image", "Visually Difficult"]})
    items = load_dataset("winoground", tmp_path)
    assert [item.meta["hard_tags"] for item in items] == [[], [], ["Unusual Image", "Visually Difficult"]]
    assert [item.key for item in load_dataset("winoground", tmp_path, subset="Unusual Image")] == [
        "winoground/2"
    ]
    known = "Both, Object, Relation, Unusual Image, Visually Difficult"
    with pytest.raises(DatasetError, match=f"no subset 'Noun'; there are: {known}"):
        load_dataset("winoground", tmp_path, subset="Noun")
    with pytest.raises(DatasetError, match="no split 'train'; there are: test"):
        load_dataset("winoground", tmp_path, split="train")
    elsewhere = write_json(tmp_path / "tags.json", {"1": ["Mine"]})
    assert load_dataset("winoground", tmp_path, hard_tags=elsewhere)[1].meta["hard_tags"] == ["Mine"]


def test_missing_images(tmp_path: Path) -> None:
    jsonl(tmp_path)
    (tmp_path / "images" / "ex_1_img_0.png").unlink()
    with pytest.raises(
        DatasetError, match=r"1 images are missing, so 1 of 3 .*: ex_1_img_0.png. .*images.zip"
    ):
        load_dataset("winoground", tmp_path)
    items = load_dataset("winoground", tmp_path, allow_missing=True)
    assert [item.key for item in items] == ["winoground/0", "winoground/2"]
    assert (items.expected, items.missing) == (3, ("ex_1_img_0.png",))
    (tmp_path / "images").rename(tmp_path / "away")
    with pytest.raises(DatasetError, match="6 images are missing, so 3 of 3 items"):
        load_dataset("winoground", tmp_path)
    (tmp_path / "away" / "ex_1_img_0.jpg").touch()
    assert len(load_dataset("winoground", tmp_path, image_root=tmp_path / "away")) == 3


def changed(**fields: Any) -> Callable[[Path], None]:
    """The second line of the jsonl file changed; None takes a field away."""

    def spoil(root: Path) -> None:
        record = {name: value for name, value in {**RECORDS[1], **fields}.items() if value is not None}
        write_lines(root / "data" / "examples.jsonl", [RECORDS[0], record, RECORDS[2]])

    return spoil


def replaced(data: bytes, name: str = "data/examples.jsonl") -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (root / name).write_bytes(data)

    return spoil


def both(*spoils: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda root: [spoil(root) for spoil in spoils]


def csv_with(**fields: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (root / "data" / "examples.jsonl").unlink()
        table(root, tags=False, **fields)

    return spoil


def parquet_with(**fields: Any) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (root / "data" / "examples.jsonl").unlink()
        (root / "data").rmdir()
        parquet(root, **fields)

    return spoil


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "line without JSON": (replaced(b'{"id": 0}\n\n{"id'), r"examples.jsonl, line 3 is not JSON"),
    "line of a list": (replaced(b"[1]\n"), r"examples.jsonl, line 1 holds a list"),
    "no UTF-8": (replaced(b"\xff\xfe{"), r"examples.jsonl is not UTF-8"),
    "no lines": (replaced(b"\n\n"), r"examples.jsonl holds no items"),
    "no caption": (changed(caption_1=None), r"examples.jsonl, line 2 has no field 'caption_1'"),
    "caption of numbers": (changed(caption_0=7), r"examples.jsonl, line 2: caption_0 is 7; expected str"),
    "no image": (changed(image_1=None), r"examples.jsonl, line 2: image_1 is empty"),
    "image by URL": (changed(image_1="https://x.org/a.png"), r"line 2: image_1 is the URL .* download it"),
    "id of text": (changed(id="1"), r"examples.jsonl, line 2: id is '1'; expected int"),
    "id twice": (changed(id=0), r"line 2: the id 0 occurs in .*line 1 already"),
    "tag of numbers": (changed(collapsed_tag=3), r"line 2: collapsed_tag is 3; expected str"),
    "predicates of text": (changed(num_main_preds="two"), r"line 2: num_main_preds is 'two'; expected int"),
    "csv without a column": (
        both(csv_with(), replaced(b"id,image_0\n", "metadata.csv")),
        r"metadata.csv has no column 'image_1', 'caption_0', 'caption_1'",
    ),
    "csv with another id": (
        csv_with(id="one"),
        r"metadata.csv, line 2: id is 'one'; expected a whole number",
    ),
    "csv with an empty image": (csv_with(image_0=""), r"metadata.csv, line 2: image_0 is empty"),
    "parquet that is none": (
        both(parquet_with(), replaced(b"PAR1", "data/test-00000-of-00002.parquet")),
        r"test-00000-of-00002.parquet is not a parquet file",
    ),
    "parquet without pixels": (
        parquet_with(image_0={"bytes": None, "path": None}),
        r"test-00000-of-00002.parquet, row 0: image_0 is empty",
    ),
    "parquet with half a pair": (
        parquet_with(image_0={"bytes": None, "path": "ex_0_img_0.png"}),
        r"test-00000-of-00002.parquet, row 0: one image is embedded and the other one a path",
    ),
    "zip that is none": (
        both(lambda root: (root / "images").rename(root / "x"), replaced(b"PK", "data/images.zip")),
        r"images.zip is not a zip file",
    ),
    "tags that are no object": (
        replaced(b"[]", "new_tag_assignments.json"),
        r"assignments.json holds a list",
    ),
    "tags that are numbers": (
        replaced(b'{"1": [2]}', "new_tag_assignments.json"),
        r"new_tag_assignments.json, record '1': the tags are \[2\]",
    ),
    "no annotations": (
        lambda root: (root / "data/examples.jsonl").unlink(),
        "holds none of data/examples.jsonl",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, tmp_path: Path) -> None:
    spoil, pattern = BAD[name]
    root = jsonl(tmp_path / "winoground")
    spoil(root)
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("winoground", root)


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    root = zipped(tmp_path / "winoground")
    path = root / "data" / "images.zip"
    data = bytearray(path.read_bytes())
    data[data.index(b"\x89PNG") + 60] ^= 255
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"images.zip, member images/ex_0_img_0.png cannot be read"):
        load_dataset("winoground", root)[0]


def test_no_file_of_tags(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="hard_tags is 'nowhere.json'; there is no such file"):
        load_dataset("winoground", jsonl(tmp_path), hard_tags="nowhere.json")
