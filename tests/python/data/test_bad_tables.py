"""Tables with cells that are not what their column is for, files that are no tables, and roles that make no items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.python.data.published_files import picture
from tests.python.data.tables import Rows, as_jsonl, as_parquet

from discffusion.data import load_dataset
from discffusion.errors import DatasetError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        picture(tmp_path / "pictures" / f"{name}.png")
    return tmp_path


GOOD = {"image": "pictures/a.png", "text": "a dog", "no": "a cat", "key": "x", "label": 1, "group": "g"}
NO: dict[str, Any] = {"negative_texts": "no"}
PAIRS: dict[str, Any] = {"label": "label", "key": "key"}

# rows of a jsonl file after a good one, options, and a pattern of the message
BAD_ROWS: dict[str, tuple[Rows, dict[str, Any], str]] = {
    "no image": ([{**GOOD, "image": None}], NO, "mine.jsonl, line 2: image is empty"),
    "blank image": ([{**GOOD, "image": "  "}], NO, "mine.jsonl, line 2: image is empty"),
    "image of a number": ([{**GOOD, "image": 3}], NO, "line 2: image is int; expected a path"),
    "image by URL": (
        [{**GOOD, "image": "http://x.org/a.png"}],
        NO,
        "line 2: image is the URL .* nothing is fetched",
    ),
    "no images": ([{**GOOD, "image": []}], NO, "line 2: image is an empty list"),
    "path out of the folder": ([{**GOOD, "image": "../../etc/passwd"}], NO, "1 images are missing"),
    "path with a zero byte": ([{**GOOD, "image": "a\0b"}], NO, "1 images are missing"),
    "text of a number": ([{**GOOD, "text": 3}], NO, "line 2: text is int '3'; expected a text"),
    "list with a number": ([{**GOOD, "text": ["a", 3]}], NO, "line 2: text is int '3'"),
    "positive among negatives": (
        [{**GOOD, "no": ["a dog"]}],
        NO,
        "line 2: 'a dog' is both a text that matches and",
    ),
    "field that is not there": (
        [{"image": "a.png", "text": "x"}],
        NO,
        "mine.jsonl, line 2 has no field 'no'; it has",
    ),
    "key twice": ([GOOD], {**NO, "key": "key"}, "line 2: the key 'x' occurs in .*line 1 already"),
    "empty key": ([{**GOOD, "key": ""}], {**NO, "key": "key"}, "line 2: key is empty"),
    "key of a list": (
        [{**GOOD, "key": [1]}],
        {**NO, "key": "key"},
        "line 2: key is list; expected a text or",
    ),
    "group of an object": ([{**GOOD, "group": {}}], {**NO, "group": "group"}, "line 2: group is dict"),
    "label of neither": ([{**GOOD, "label": 2}], PAIRS, "line 2: label is '2'; expected 1, 0, true or false"),
    "no label": ([{**GOOD, "label": None}], PAIRS, "line 2: label is 'None'"),
    "two labels": (
        [{**GOOD, "label": 0}],
        PAIRS,
        "line 2: this image and text of the key 'x' had the other label",
    ),
    "two groups": (
        [{**GOOD, "text": "b", "group": "h"}],
        {**PAIRS, "group": "group"},
        "line 2: the group is 'h', and 'g'",
    ),
    "pair without a label": (
        [{**GOOD, "image": "pictures/b.png", "text": "b", "label": 0}],
        PAIRS,
        "line 1: the key 'x' has 2 images and 2 texts, and 2 of their pairs no row",
    ),
    "label of a list": ([{**GOOD, "text": ["a", "b"]}], PAIRS, "line 2: text holds 2 values; with label="),
    "two images without negatives": (
        [{**GOOD, "image": ["pictures/a.png"] * 2}],
        {},
        "line 2: 2 images; without",
    ),
    "list where images have a text each": (
        [{**GOOD, "text": ["a", "b"]}],
        {"image": ["image", "image"], "text": ["text", "no"]},
        "line 2: 2 images and 3 texts; expected one a column",
    ),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows(name: str, root: Path) -> None:
    rows, options, pattern = BAD_ROWS[name]
    path = as_jsonl(root / "mine.jsonl", [GOOD, *rows])
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("table", path, **options)


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "csv without the column": (
        "a.csv",
        b"image,title\r\nx,y\r\n",
        r"a.csv has no column 'text'; it has image, title",
    ),
    "csv of no lines": ("a.csv", b"", "a.csv is empty; expected a header with the columns image, text"),
    "csv of a header": ("a.csv", b"image,text\n", "table .*a.csv holds no rows"),
    "csv with a long row": ("a.csv", b"image,text\nx,y,z\n", "a.csv, line 2 has 3 fields; the header has 2"),
    "csv with an open quote": ("a.csv", b'image,text\nx,"y\n', "a.csv, line 2 is not CSV"),
    "csv of no UTF-8": ("a.csv", b"image,text\nx,\xe9\n", "a.csv is not UTF-8 text"),
    "csv with a column twice": ("a.csv", b"image,text,text\nx,y,z\n", "a.csv has the column 'text' twice"),
    "csv with an empty cell": ("a.csv", b"image,text\n,y\n", "a.csv, line 2: image is empty"),
    "jsonl of no JSON": ("a.jsonl", b'{"image": 1}\n{', "a.jsonl, line 1 has no field 'text'"),
    "jsonl cut off": ("a.jsonl", b'{"image": "x", "text": "y"}\n{"im', "a.jsonl, line 2 is not JSON"),
    "jsonl of nothing": ("a.jsonl", b"", "table .*a.jsonl holds no rows"),
    "parquet that is none": ("a.parquet", b"PAR1 nothing PAR1", "a.parquet is not a parquet file"),
    "yaml": (
        "a.yaml",
        b"[]",
        "a.yaml is not one of .csv, .tsv, .json, .jsonl, .ndjson, .parquet, by its name",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(name: str, tmp_path: Path) -> None:
    file, data, pattern = BAD_FILES[name]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("table", tmp_path / file)


def test_a_parquet_file_without_the_column_and_with_an_empty_cell(root: Path) -> None:
    path = as_parquet(root / "a.parquet", [{"image": {"bytes": b"", "path": ""}, "text": "x"}])
    with pytest.raises(DatasetError, match=r"a.parquet has no column 'caption'; it has image, text"):
        load_dataset("table", path, text="caption")
    with pytest.raises(DatasetError, match=r"a.parquet, row 0: image is empty"):
        load_dataset("table", path)


def test_a_parquet_file_with_text_that_is_no_utf_8(root: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as pq

    raw = arrow.array([b"a dog", b"a d\xffg"], arrow.binary())
    text = arrow.Array.from_buffers(arrow.string(), 2, raw.buffers())
    pq.write_table(arrow.table({"image": ["pictures/a.png"] * 2, "text": text}), root / "a.parquet")
    with pytest.raises(DatasetError, match=r"a.parquet, row 1: text is not UTF-8 text \(byte 3\)"):
        load_dataset("table", root / "a.parquet")


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no column": ({"image": None}, "image= and text= name at least one column each"),
    "column of a number": ({"text": 3}, "text is 3; expected the name of a column"),
    "two keys": ({"key": ["a", "b"]}, "key is .*; expected one column"),
    "images and texts that do not go together": (
        {"image": ["a", "b"], "text": ["c", "d", "e"]},
        "2 columns of images and 3 of texts",
    ),
    "negatives of both kinds": (
        {"negative_texts": "a", "negative_images": "b"},
        "nothing says whether those match",
    ),
    "pairs with negatives": (
        {"image": ["a", "b"], "text": ["c", "d"], "negative_texts": "e"},
        "no further negatives",
    ),
    "label with negatives": ({"label": "a", "negative_texts": "b"}, "label= is for one column of images"),
    "task with negatives": (
        {"task": "retrieval", "negative_texts": "no"},
        "takes images and texts that match",
    ),
    "unknown task": ({"task": "sorting"}, "no task 'sorting'; there are: retrieval, pretraining"),
    "unknown option": ({"colour": "a"}, "unexpected keyword argument 'colour'"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_make_no_items(name: str, root: Path) -> None:
    options, pattern = OPTIONS[name]
    path = as_jsonl(root / "mine.jsonl", [GOOD])
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("table", path, **options)


@pytest.mark.parametrize("given", [None, "", 3, "no/such/file.csv"])
def test_roots_that_are_none(given: Any) -> None:
    with pytest.raises(DatasetError, match="table"):
        load_dataset("table", given)
