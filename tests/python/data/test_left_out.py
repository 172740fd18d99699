"""An item that lacks a text is left out and counted, in every dataset that is read from files; the others are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.python.data.published_files import picture, write_json
from tests.python.data.shards import JPEG, PNG, shard
from tests.python.data.spoiling import QUESTIONS, VQA, build, json_with, row
from tests.python.data.tables import WRITERS, as_jsonl, as_parquet
from tests.python.data.test_aro import ATTRIBUTES, RELATIONS
from tests.python.data.test_aro_order import CAPTIONS, shuffled
from tests.python.data.test_sugarcrepe import EXCERPT, with_images
from tests.python.data.test_winoground import RECORDS, images, write_lines

from discffusion import evaluate
from discffusion.data import load_dataset
from discffusion.errors import DatasetError

BLANKS: dict[str, Any] = {"empty": "", "white space": " \t\n", "null": None}


def tar(path: Path, **captions: bytes | None) -> Path:
    files: dict[str, bytes] = {}
    for key, caption in captions.items():
        files[f"{key}.jpg"] = JPEG
        if caption is not None:
            files[f"{key}.txt"] = caption
    return shard(path, files)


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        (b"", "00001.tar, member 'b.txt' holds no text"),
        (b" \r\n", "00001.tar, member 'b.txt' holds no text"),
        (b"\xef\xbb\xbf", "00001.tar, member 'b.txt' holds no text"),
        (None, "00001.tar, sample 'b' has no .txt; it has jpg: the extension of the captions is text_key="),
    ],
    ids=["empty", "white space", "byte order mark", "no member"],
)
@pytest.mark.parametrize("task", ["pretraining", "retrieval"])
def test_a_caption_that_a_shard_lacks(caption: bytes | None, reason: str, task: str, tmp_path: Path) -> None:
    tar(tmp_path / "00001.tar", a=b"a dog", b=caption, c=b"a cat")
    items = load_dataset("webdataset", tmp_path, task=task)
    behind = "/0" if task == "pretraining" else ""
    assert [item.key for item in items] == [f"00001.tar/{key}{behind}" for key in "ac"]
    assert (len(items), items.expected, items.missing) == (2, 3, ())
    (note,) = items.about["notes"]
    assert note.startswith(f"1 of 3 items lack a text and are left out: {reason}")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"caption": None}, "holds no text"),
        ({"caption": " "}, "holds no text"),
        ({"alt": "x"}, "has no field 'caption'; it has alt"),
    ],
)
def test_a_field_of_json_that_says_nothing(record: Any, reason: str, tmp_path: Path) -> None:
    files = {"a.jpg": JPEG, "a.json": json.dumps(record).encode()}
    shard(tmp_path / "0.tar", {**files, "b.jpg": JPEG, "b.json": b'{"caption": "a dog"}'})
    items = load_dataset("webdataset", tmp_path, json_text_key="caption")
    assert [list(item.texts) for item in items] == [["a dog"]] and items.expected == 2
    assert "1 of 2 items lack a text" in items.about["notes"][0]
    shard(tmp_path / "0.tar", files)
    with pytest.raises(DatasetError, match=f"all 1 items lack a text: .*0.tar, member 'a.json' .*{reason}"):
        load_dataset("webdataset", tmp_path, json_text_key="caption")


def test_many_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", z=b"a dog", **dict.fromkeys("abcde", b""))
    items = load_dataset("webdataset", tmp_path)
    assert items.about["notes"] == [
        "5 of 6 items lack a text and are left out: 0.tar, member 'a.txt' holds no text; "
        "0.tar, member 'b.txt' holds no text; 0.tar, member 'c.txt' holds no text; and 2 more"
    ]


GOOD = {"image": "a.png", "text": "a dog", "no": "a cat", "key": "x", "y": 1}


def rows_with(kind: str, column: str, blank: Any) -> list[dict[str, Any]]:
    blank = "" if blank is None and kind in ("csv", "tsv") else blank
    return [{**GOOD, "key": "x"}, {**GOOD, "key": "y", column: blank}, {**GOOD, "key": "z"}]


@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("kind", [*WRITERS, "json"])
@pytest.mark.parametrize(
    ("column", "options"),
    [
        ("text", {"negative_texts": "no"}),
        ("no", {"negative_texts": "no"}),
        ("text", {}),
        ("text", {"label": "y"}),
        ("no", {"image": ["image", "image"], "text": ["text", "no"]}),
    ],
    ids=["text", "negative", "caption", "label", "pair"],
)
def test_a_cell_of_a_table(
    kind: str, blank: str, column: str, options: dict[str, Any], tmp_path: Path
) -> None:
    picture(tmp_path / "a.png")
    rows = rows_with(kind, column, BLANKS[blank])
    path = tmp_path / f"t.{kind}"
    if kind == "json":
        write_json(path, rows)
    else:
        WRITERS[kind](path, rows)
    items = load_dataset("table", path, key="key", **options)
    assert [item.key.split("/")[0] for item in items] == ["x", "z"]
    assert (len(items), items.expected) == (2, 3)
    place = {"csv": "line 3", "tsv": "line 3", "jsonl": "line 2", "parquet": "row 1", "json": "record 1"}[
        kind
    ]
    if blank == "white space" and kind in ("csv", "tsv"):
        place = "line 4"  # the cell itself holds a line end
    (note,) = items.about["notes"]
    assert note.startswith(f"1 of 3 items lack a text and are left out: t.{kind}, {place}: {column} ")


def test_what_a_report_says(tmp_path: Path) -> None:
    class Longer:
        def matrix(self, images: Any, texts: Any) -> Any:
            return [[float(len(text)) for text in texts] for _ in images]

    picture(tmp_path / "a.png")
    rows = [{**GOOD, "text": text} for text in ("a large dog", "", "a large cow", "it")]
    items = load_dataset("table", as_jsonl(tmp_path / "t.jsonl", rows), negative_texts="no")
    report = evaluate(Longer(), items)
    assert report["accuracy"].value == pytest.approx(2 / 3)
    assert (report.n_scored, report.n_expected) == (3, 4)
    assert list(report.notes) == [
        "1 of 4 items lack a text and are left out: t.jsonl, line 2: text is empty; expected a text"
    ]


def test_blanks_in_a_list_of_texts(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    rows = [
        {"image": "a.png", "text": ["a dog", "", None]},
        {"image": "a.png", "text": []},
        {"image": "a.png", "text": ["  "]},
    ]
    for kind, write in (("jsonl", as_jsonl), ("parquet", as_parquet)):
        items = load_dataset("table", write(tmp_path / f"t.{kind}", rows))
        assert [list(item.texts) for item in items] == [["a dog"]]
        assert items.about["notes"][0].startswith("2 of 3 items lack a text")
        assert items.about["notes"][1] == "2 blank texts that stand beside others are passed over"


def test_images_of_several_rows_stay_when_one_says_nothing(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    rows = [{"image": "a.png", "text": text} for text in ("", "a dog", "an animal")]
    items = load_dataset("table", as_jsonl(tmp_path / "t.jsonl", rows), task="retrieval")
    assert [list(item.texts) for item in items] == [["a dog", "an animal"]]
    assert items.about["notes"][0].startswith("1 of 3 items lack a text")


def test_a_key_with_labels_is_left_out_as_a_whole(tmp_path: Path) -> None:
    """With one of its texts gone it would be an easier item."""
    picture(tmp_path / "a.png")
    rows = [
        {"image": "a.png", "text": text, "key": key, "y": label}
        for key, text, label in (("x", "a dog", 1), ("x", None, 0), ("y", "a dog", 1), ("y", "a cat", 0))
    ]
    items = load_dataset("table", as_jsonl(tmp_path / "t.jsonl", rows), label="y", key="key")
    assert [(item.key, list(item.texts)) for item in items] == [("y", ["a dog", "a cat"])]
    assert items.expected == 2 and items.about["notes"][0].startswith("1 of 2 items lack a text")


def test_only_items_of_the_subset_are_counted(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    rows = [{**GOOD, "g": "one"}, {**GOOD, "g": "two", "text": ""}, {**GOOD, "g": "two"}]
    path = as_jsonl(tmp_path / "t.jsonl", rows)
    options: dict[str, Any] = {"negative_texts": "no", "group": "g"}
    one = load_dataset("table", path, subset="one", **options)
    assert (len(one), one.expected, "notes" in one.about) == (1, 1, False)
    two = load_dataset("table", path, subset="two", **options)
    assert (len(two), two.expected) == (1, 2) and two.about["notes"][0].startswith("1 of 2 items")


@pytest.mark.parametrize("value", [None, "", []])
def test_cells_without_an_image_where_images_may_be_missing(value: Any, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    path = as_jsonl(tmp_path / "t.jsonl", [GOOD, {**GOOD, "image": value}])
    with pytest.raises(DatasetError, match="line 2: image is"):
        load_dataset("table", path, negative_texts="no")
    items = load_dataset("table", path, negative_texts="no", allow_missing=True)
    assert (len(items), items.expected) == (1, 2)
    assert items.about["notes"][0].startswith("1 of 2 items lack an image and are left out: t.jsonl, line 2")


def test_rows_of_the_library_datasets() -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"image": [PNG] * 3, "text": ["a", None, " "], "no": ["n"] * 3})
    items = load_dataset("hf", data, negative_texts="no")
    assert [item.key for item in items] == ["0"] and items.expected == 3
    assert items.about["notes"] == [
        "2 of 3 items lack a text and are left out: hf, row 1: text is empty; expected a text; "
        "hf, row 2: text is empty; expected a text"
    ]


def _winoground(root: Path, blank: Any) -> dict[str, Any]:
    images(root / "images")
    write_lines(
        root / "data" / "examples.jsonl", [RECORDS[0], {**RECORDS[1], "caption_0": blank}, RECORDS[2]]
    )
    return {}


def _winoground_csv(root: Path, blank: Any) -> dict[str, Any]:
    images(root)
    lines = ["id,image_0,image_1,caption_0,caption_1"]
    for number in range(3):
        text = (blank or "").strip() if number == 1 else "a b"
        lines.append(f"{number},ex_{number}_img_0.png,ex_{number}_img_1.png,{text},b a")
    (root / "metadata.csv").write_text("\n".join(lines))
    return {}


def _sugarcrepe(root: Path, blank: Any) -> dict[str, Any]:
    with_images(root, EXCERPT, ("swap_obj",))
    path = root / "swap_obj.json"
    found = json.loads(path.read_text())
    found["14"]["negative_caption"] = blank
    write_json(path, found)
    return {"subset": "swap_obj"}


def _aro(root: Path, blank: Any) -> dict[str, Any]:
    for name in ("2371374.jpg", "1.jpg"):
        picture(root / "images" / name)
    write_json(root / "visual_genome_relation.json", [RELATIONS[0], {**RELATIONS[1], "false_caption": blank}])
    write_json(root / "visual_genome_attribution.json", ATTRIBUTES)
    return {}


def _aro_order(root: Path, blank: Any) -> dict[str, Any]:
    for record in CAPTIONS:
        picture(root / str(record["image"]))
    shuffled(root)
    first, second = CAPTIONS[0]["caption"]
    changed = [{**CAPTIONS[0], "caption": [first if blank == "a word" else blank, second]}, CAPTIONS[1]]
    write_json(root / "coco_karpathy_test.json", changed)
    return {"subset": "coco_order"}


def _comvg(root: Path, blank: Any) -> dict[str, Any]:
    build("comvg", root)
    row("compositional_visual_genome.csv", "16,a man is laying on grass.", f"16,{(blank or '').strip()}")(
        root
    )
    return {}


def _vqav2(root: Path, blank: Any) -> dict[str, Any]:
    build("vqav2", root)
    json_with(QUESTIONS, lambda value: value["questions"][4].update(question=blank))(root)
    return {}


def _vqa_texts(root: Path, blank: Any) -> dict[str, Any]:
    build("vqa_csv", root)
    row(VQA, "What baseball team is on the hat? light", (blank or "").strip())(root)
    return {}


def _vqa_images(root: Path, blank: Any) -> dict[str, Any]:
    build("vqa_csv", root)
    row("test.txt", "what? it is 0\n", f"{(blank or '').strip()}\n")(root)
    return {"layout": "images"}


def _coco(root: Path, blank: Any) -> dict[str, Any]:
    picture(root / "val2017" / "a.jpg")
    texts = ["a dog", blank, "a cat"]
    write_json(
        root / "captions_val2017.json",
        {
            "images": [{"id": 1, "file_name": "a.jpg"}],
            "annotations": [{"image_id": 1, "id": key, "caption": text} for key, text in enumerate(texts)],
        },
    )
    return {"task": "pretraining"}


READERS: dict[str, tuple[Callable[[Path, Any], dict[str, Any]], str]] = {
    "winoground": (_winoground, "data/examples.jsonl, line 2: caption_0 is empty"),
    "winoground csv": (_winoground_csv, "metadata.csv, line 3: caption_0 is empty"),
    "sugarcrepe": (_sugarcrepe, "swap_obj.json, record '14': negative_caption is empty"),
    "aro": (_aro, "visual_genome_relation.json, record 1: false_caption is empty"),
    "aro order": (_aro_order, "coco_karpathy_test.json, record 0: caption 0 is empty"),
    "comvg": (_comvg, "compositional_visual_genome.csv, line 3: sentence is empty"),
    "vqav2": (_vqav2, "v2_OpenEnded_mscoco_val2014_questions.json, question 4: question is empty"),
    "vqa_csv": (_vqa_texts, "vqa_text_test.csv, line 2: neg_sentence_1 is empty"),
    "vqa_csv images": (_vqa_images, "test.txt, line 1: the text is empty"),
    "coco_captions": (_coco, "1 blank captions are left out"),
}


@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("name", READERS)
def test_a_text_of_a_published_file(name: str, blank: str, tmp_path: Path) -> None:
    """One item is gone, and every other is what it is in the whole file."""
    write, reason = READERS[name]
    whole = load_dataset(name.split()[0], tmp_path / "whole", **_made(write, tmp_path / "whole", "a word"))
    items = load_dataset(name.split()[0], tmp_path / "part", **_made(write, tmp_path / "part", BLANKS[blank]))
    assert any(reason in note for note in items.about["notes"]), items.about["notes"]
    left = {item.key: list(item.texts) for item in items}
    before = {item.key: list(item.texts) for item in whole}
    assert len(left) == len(before) - 1 and left.items() <= before.items()
    if name != "coco_captions":
        assert items.expected == whole.expected == len(whole)
        (note,) = [note for note in items.about["notes"] if "lack a text" in note]
        assert note == f"1 of {len(whole)} items lack a text and are left out: {reason}"


def _made(write: Callable[[Path, Any], dict[str, Any]], root: Path, text: Any) -> dict[str, Any]:
    root.mkdir()
    return write(root, text)


def test_a_text_of_vl_checklist(tmp_path: Path) -> None:
    picture(tmp_path / "vg" / "VG_100K" / "1.jpg")
    (tmp_path / "corpus" / "v1" / "Attribute" / "color").mkdir(parents=True)
    (tmp_path / "corpus/v1/Attribute/color/vg.yaml").write_text(
        "ANNO_PATH: data/color.json\nIMG_ROOT: vg\nTYPE: TUPLE_JSON"
    )
    records = [["VG_100K/1.jpg", {"POS": [text], "NEG": ["blue"]}] for text in ("red", " ", None, "green")]
    (tmp_path / "data").mkdir()
    write_json(tmp_path / "data" / "color.json", records)
    items = load_dataset("vl_checklist", tmp_path)
    assert [item.key.rsplit("/", 1)[1] for item in items] == ["0", "3"] and items.expected == 4
    assert (
        "2 of 4 items lack a text and are left out: data/color.json, record 1: POS is empty; "
        "data/color.json, record 2: POS is empty"
    ) in items.about["notes"]


def test_nothing_is_left(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    path = as_jsonl(tmp_path / "t.jsonl", [{**GOOD, "text": ""}] * 2)
    with pytest.raises(DatasetError, match=r"all 2 items lack a text: .*t.jsonl, line 1: text is empty"):
        load_dataset("table", path, negative_texts="no")
    tar(tmp_path / "0.tar", a=b"", b=None)
    with pytest.raises(DatasetError, match="all 2 items lack a text: .*0.tar, member 'a.txt' holds no text"):
        load_dataset("webdataset", tmp_path / "0.tar", allow_missing=True)
