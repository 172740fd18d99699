"""Files of tables as other programs write them: JSON, shards of parquet, other delimiters and encodings, odd paths."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.python.data.published_files import picture, write_json
from tests.python.data.shards import JPEG, PNG
from tests.python.data.tables import Rows, as_csv, as_jsonl, as_parquet
from tests.python.shards.made_up import ByDigest, expected
from tests.python.shards.made_up import rows as scored

from discffusion import score_shards
from discffusion.data import load_dataset
from discffusion.errors import DatasetError

ROWS: Rows = [
    {"image": "a.png", "text": "a dog", "no": "a cat", "id": 1},
    {"image": "b.png", "text": "a cup, \u201cred\u201d", "no": "a jug", "id": 2},
    {"image": "a.png", "text": "café", "no": "bar", "id": 3},
]
NO: dict[str, Any] = {"negative_texts": "no", "key": "id"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, name in enumerate("ab"):
        picture(tmp_path / f"{name}.png", seed=seed)
    return tmp_path


def same(items: Any) -> None:
    """They are the rows, in their order."""
    assert [item.key for item in items] == ["1", "2", "3"]
    for item, row in zip(items, ROWS, strict=True):
        assert sorted(item.texts) == sorted([row["text"], row["no"]])
        assert item.texts[item.match[0].tolist().index(True)] == row["text"]
        assert Path(item.images[0]).name == row["image"] and Path(item.images[0]).is_file()


def columns_of(rows: Rows) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


JSON: dict[str, Any] = {
    "list of objects": ROWS,
    "columns of lists": columns_of(ROWS),
    "columns of pandas": {
        name: {str(place): cell for place, cell in enumerate(cells)}
        for name, cells in columns_of(ROWS).items()
    },
    "records by key": {f"record {row['id']}": row for row in ROWS},
    "a list within an object": {"version": "1.0", "data": ROWS},
}


@pytest.mark.parametrize("layout", JSON)
def test_json(layout: str, root: Path) -> None:
    path = write_json(root / "t.json", JSON[layout])
    same(load_dataset("table", path, **NO))
    assert load_dataset("table", path, **NO).about["file"] == "t.json"


def test_json_as_pandas_writes_it(root: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS)
    for orient in ("records", "columns", "index"):
        frame.to_json(root / "t.json", orient=orient)
        same(load_dataset("table", root / "t.json", **NO))
    frame.to_json(root / "t.json", orient="records", lines=True)
    same(load_dataset("table", root / "t.json", **NO))


BAD_JSON: dict[str, tuple[str, str]] = {
    "no JSON": ("[1,", "t.json is not JSON"),
    "a number": ("3", "t.json holds int; expected a list of objects, one a row"),
    "numbers": ("[1, 2]", "t.json, record 0 is int; expected an object, the row of a table"),
    "nothing": ("[]", "holds no rows"),
    "other objects": (
        '[{"image": "a.png"}]',
        "t.json, record 0 has no field 'text', 'no', 'id'; it has image",
    ),
    "other columns": (
        '{"picture": ["a"], "word": ["b"]}',
        "t.json holds an object of picture, word; expected a list",
    ),
    "a column too few": (
        '{"image": ["a"], "text": ["b"]}',
        "t.json has no column 'no', 'id'; it has image, text",
    ),
    "columns of unlike length": (
        '{"image": ["a"], "text": ["b", "c"], "no": ["d"], "id": [1]}',
        "the columns have not the same rows: 'image' 1, 'text' 2",
    ),
    "a column of one cell": (
        '{"image": "a", "text": ["b"], "no": ["d"], "id": [1]}',
        "the column 'image' is str; expected a list of cells",
    ),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json(name: str, root: Path) -> None:
    text, pattern = BAD_JSON[name]
    (root / "t.json").write_text(text)
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("table", root / "t.json", **NO)


def test_descriptions_beside_a_table_are_no_tables(root: Path) -> None:
    as_csv(root / "test.csv", ROWS)
    (root / "dataset_info.json").write_text("{}")
    same(load_dataset("table", root, **NO))
    write_json(root / "dev.json", ROWS)
    same(load_dataset("table", root, split="dev", **NO))


def hub(folder: Path, split: str, parts: list[Rows], digest: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(parts):
        as_parquet(folder / f"{split}-{number:05d}-of-{len(parts):05d}{digest}.parquet", rows)


def held(image: bytes, rows: Rows) -> Rows:
    return [{**row, "image": {"bytes": image, "path": row["image"]}} for row in rows]


@pytest.mark.parametrize("dataset", ["table", "hf"])
@pytest.mark.parametrize("digest", ["", "-0123456789abcdef"])
def test_parquet_of_the_hub(dataset: str, digest: str, tmp_path: Path) -> None:
    hub(tmp_path / "data", "test", [held(PNG, ROWS[:2]), held(JPEG, ROWS[2:])], digest)
    hub(tmp_path / "data", "train", [held(PNG, ROWS[:1])], digest)
    (tmp_path / "README.md").write_text("# A card")
    for place in (tmp_path, tmp_path / "data"):
        items = load_dataset(dataset, place, split="test", **NO)
        assert [(item.key, item.images[0]) for item in items] == [("1", PNG), ("2", PNG), ("3", JPEG)]
        assert len(load_dataset(dataset, str(place), split="train", **NO)) == 1
        with pytest.raises(DatasetError, match="one has to be named as split=: test, train"):
            load_dataset(dataset, place, **NO)
        with pytest.raises(DatasetError, match="has no split 'val'; there are: test, train"):
            load_dataset(dataset, place, split="val", **NO)
    one = tmp_path / "data" / f"train-00000-of-00001{digest}.parquet"
    assert len(load_dataset(dataset, one, **NO)) == 1
    (tmp_path / "data" / f"test-00000-of-00002{digest}.parquet").unlink()
    with pytest.raises(DatasetError, match="holds 1 of the 2 files of 'test'; number 0 is missing"):
        load_dataset(dataset, tmp_path, split="test", **NO)


def test_the_only_split_needs_no_name(tmp_path: Path) -> None:
    hub(tmp_path / "data", "test", [held(PNG, ROWS[:1]), held(PNG, ROWS[1:])])
    for dataset in ("table", "hf"):
        items = load_dataset(dataset, tmp_path, **NO)
        assert [item.key for item in items] == ["1", "2", "3"]
    assert load_dataset("table", tmp_path, **NO).about["files"] == 2


def test_a_folder_for_each_split(tmp_path: Path) -> None:
    """As the Hub converts data sets: default/test/0000.parquet."""
    for split, rows in (("test", ROWS), ("train", ROWS[:1])):
        for number, row in enumerate(rows):
            folder = tmp_path / "default" / split
            folder.mkdir(parents=True, exist_ok=True)
            as_parquet(folder / f"{number:04d}.parquet", held(PNG, [row]))
    for dataset in ("table", "hf"):
        assert [item.key for item in load_dataset(dataset, tmp_path, split="test", **NO)] == ["1", "2", "3"]
        assert len(load_dataset(dataset, tmp_path, split="train", **NO)) == 1


def test_shards_of_text_files(root: Path) -> None:
    for number, row in enumerate(ROWS):
        as_jsonl(root / f"test-{number:05d}-of-00003.jsonl", [row])
    same(load_dataset("table", root, split="test", **NO))


@pytest.mark.parametrize(("delimiter", "name"), [("\t", "tab"), (";", "semicolon"), ("|", "pipe")])
def test_other_delimiters(delimiter: str, name: str, root: Path) -> None:
    path = as_csv(root / "t.csv", ROWS, delimiter)
    with pytest.raises(DatasetError) as caught:
        load_dataset("table", path, **NO)
    assert f"it looks {name}-separated: give delimiter={delimiter!r}" in str(caught.value)
    with pytest.raises(DatasetError, match=f"it looks {name}-separated"):
        load_dataset("table", path, image="misspelt", **NO)
    same(load_dataset("table", path, delimiter=delimiter, **NO))
    if name == "tab":
        same(load_dataset("table", path, delimiter="tab", **NO))
        same(load_dataset("table", path, delimiter="\\t", **NO))  # as a shell passes it


def test_a_line_that_names_the_delimiter(root: Path) -> None:
    path = as_csv(root / "t.csv", ROWS, ";")
    path.write_bytes(b"\xef\xbb\xbfsep=;\r\n" + path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    same(load_dataset("table", path, **NO))
    path.write_bytes(path.read_bytes() + b"x;y\r\n")
    with pytest.raises(DatasetError, match="t.csv, line 6 has 2 fields; the header has 4"):
        load_dataset("table", path, **NO)


def test_empty_rows_and_columns_of_a_spreadsheet(root: Path) -> None:
    path = as_csv(root / "t.csv", ROWS)
    text = path.read_text("utf-8-sig").replace("\n\n", "\n")
    lines = [f"{line},," for line in text.splitlines()]
    path.write_text("\n".join([*lines[:2], ",,,,,", *lines[2:], ",,,,,", " , ,,,,"]) + "\n", "utf-8")
    same(load_dataset("table", path, **NO))
    assert load_dataset("table", path, **NO).expected == 3


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("cp1252", "it looks like Windows-1252: give encoding='cp1252'"),
        ("utf-16", "it looks like UTF-16: give encoding='utf-16'"),
        ("utf-16-le", "it looks like UTF-16-LE: give encoding='utf-16-le'"),
        ("utf-16-be", "it looks like UTF-16-BE: give encoding='utf-16-be'"),
        ("utf-32", "it looks like UTF-32: give encoding='utf-32'"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
def test_other_encodings(encoding: str, said: str, kind: str, root: Path) -> None:
    path = root / f"t.{kind}"
    if kind in ("csv", "tsv"):
        text = as_csv(path, ROWS, "\t" if kind == "tsv" else ",").read_text("utf-8-sig")
    elif kind == "jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    else:
        text = json.dumps(ROWS, ensure_ascii=False)
    path.write_bytes(text.encode(encoding))
    with pytest.raises(DatasetError) as caught:
        load_dataset("table", path, **NO)
    assert "is not UTF-8 text (byte " in str(caught.value) and said in str(caught.value)
    same(load_dataset("table", path, encoding=encoding, **NO))


@pytest.mark.parametrize(
    ("encoding", "text"), [("cp1251", "красный круг"), ("shift_jis", "赤い円"), ("gb18030", "红色圆圈")]
)
def test_an_encoding_that_cannot_be_told(encoding: str, text: str, root: Path) -> None:
    (root / "t.csv").write_bytes(f"image,text,no\na.png,{text},x\n".encode(encoding))
    with pytest.raises(
        DatasetError, match="is not UTF-8 text .*; give encoding='cp1251', 'gb18030', 'shift_jis' or"
    ):
        load_dataset("table", root / "t.csv", negative_texts="no")
    items = load_dataset("table", root / "t.csv", negative_texts="no", encoding=encoding)
    assert sorted(items[0].texts) == sorted([text, "x"])


def test_tab_separated_text_of_a_spreadsheet(root: Path) -> None:
    """What Excel calls Unicode text: UTF-16 and tabs."""
    text = as_csv(root / "t.csv", ROWS, "\t").read_text("utf-8-sig")
    (root / "t.csv").write_bytes(text.encode("utf-16"))
    with pytest.raises(DatasetError, match="give delimiter='.t'"):
        load_dataset("table", root / "t.csv", encoding="utf-16", **NO)
    same(load_dataset("table", root / "t.csv", encoding="utf-16", delimiter="\t", **NO))


OPTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "two characters": ("t.csv", {"delimiter": ";;"}, "delimiter= is ';;'; expected one character"),
    "a number": ("t.csv", {"delimiter": 3}, "delimiter= is 3; expected one character"),
    "a line end": ("t.csv", {"delimiter": "\n"}, "delimiter= is "),
    "a delimiter of JSON": ("t.jsonl", {"delimiter": ";"}, "delimiter= is for .csv and .tsv"),
    "no encoding": (
        "t.csv",
        {"encoding": "klingon"},
        "encoding= is 'klingon'; expected the name of an encoding",
    ),
    "no text encoding": ("t.csv", {"encoding": "base64"}, "encoding= is 'base64'; expected the name"),
    "an encoding of parquet": ("t.parquet", {"encoding": "utf-8"}, "encoding= is for text"),
    "the wrong one": ("t.csv", {"encoding": "ascii"}, "t.csv is not text in encoding='ascii' "),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_do_not_go_with_the_file(name: str, root: Path) -> None:
    file, options, pattern = OPTIONS[name]
    writers: dict[str, Callable[[Path, Rows], Path]] = {
        "csv": as_csv,
        "jsonl": as_jsonl,
        "parquet": as_parquet,
    }
    writers[file.partition(".")[2]](root / file, ROWS)
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("table", root / file, **NO, **options)


def test_columns_are_several_in_a_list(root: Path) -> None:
    path = as_csv(root / "t.csv", [{"i": "a.png", "j": "b.png", "s": "x y", "t": "y x"}])
    items = load_dataset("table", path, image=["i", "j"], text=("s", "t"))
    assert [Path(image).name for image in items[0].images] == ["a.png", "b.png"]
    with pytest.raises(DatasetError) as caught:
        load_dataset("table", path, image="i,j", text=["s", "t"])
    assert "has no column 'i,j'; it has i, j, s, t; several columns are given as a list: ['i', 'j']" in str(
        caught.value
    )


PATHS = ("../pictures/a.png", "{root}/pictures/a.png", "~/pictures/a.png", "./../tables/../pictures/a.png")


@pytest.mark.parametrize("given", PATHS)
@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_paths_from_elsewhere(given: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both readers of tables follow a path in the same way."""
    monkeypatch.setenv("HOME", str(tmp_path))
    picture(tmp_path / "pictures" / "a.png")
    (tmp_path / "tables").mkdir()
    name = given.format(root=tmp_path)
    writers = {"csv": as_csv, "parquet": as_parquet, "jsonl": as_jsonl}
    path = writers[kind](tmp_path / "tables" / f"t.{kind}", [{"image": name, "text": "a dog", "no": "a cat"}])
    item = load_dataset("table", path, negative_texts="no")[0]
    assert Path(item.images[0]).samefile(tmp_path / "pictures" / "a.png")
    assert item.meta is not None and item.meta["images"] == [Path(name).as_posix()]
    if kind == "csv":
        return
    score_shards(path, tmp_path / "out", ByDigest())
    (row,) = scored(tmp_path / "out")
    assert (row["error"], row["score"]) == (
        None,
        expected((tmp_path / "pictures/a.png").read_bytes(), "a dog"),
    )


@pytest.mark.parametrize(
    "given", ["../pictures/b.png", "~/b.png", "~nobody-of-this-name/a.png", "..", "~", "/"]
)
def test_paths_that_lead_nowhere(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = as_jsonl(tmp_path / "t.jsonl", [{"image": given, "text": "a dog", "no": "a cat"}])
    with pytest.raises(DatasetError, match="1 images are missing"):
        load_dataset("table", path, negative_texts="no")
    assert score_shards(path, tmp_path / "out", ByDigest()).failures == {"missing_image": 1}


def test_a_name_that_begins_with_a_tilde(tmp_path: Path) -> None:
    picture(tmp_path / "~draft.png")
    path = as_jsonl(tmp_path / "t.jsonl", [{"image": "~draft.png", "text": "a dog", "no": "a cat"}])
    assert load_dataset("table", path, negative_texts="no")[0].images == [tmp_path / "~draft.png"]
    assert score_shards(path, tmp_path / "out", ByDigest()).failures == {}
