"""Whole numbers as pandas writes them where a column lacks some: 1.0, and nan or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.python.data.published_files import picture, question, vqav2, write_json
from tests.python.data.spoiling import ANNOTATIONS, COMVG, QUESTIONS, VQA, build, good_questions
from tests.python.data.test_winoground import RECORDS, images, parquet

from discffusion.data import load_dataset
from discffusion.data.files import field, whole_number
from discffusion.errors import DatasetError


@pytest.mark.parametrize("nothing", ["", "nan", "NaN", "<NA>", "None"])
@pytest.mark.parametrize("numbers", ["{}.0", "{}", " {}.", "{}.00"])
def test_winoground_as_csv(numbers: str, nothing: str, tmp_path: Path) -> None:
    images(tmp_path)
    lines = ["id,image_0,image_1,caption_0,caption_1,num_main_preds"]
    for number in range(3):
        predicates = nothing if number == 1 else numbers.format(number + 1)
        pair = ",".join(f"ex_{number}_img_{place}.png" for place in range(2))
        lines.append(f"{numbers.format(number)},{pair},a b,b a,{predicates}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    items = load_dataset("winoground", tmp_path)
    assert [item.key for item in items] == [f"winoground/{number}" for number in range(3)]
    assert [item.meta.get("num_main_preds") for item in items if item.meta] == [1, None, 3]


def test_winoground_as_pandas_saves_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    images(tmp_path)
    frame = pandas.DataFrame(RECORDS)
    frame.loc[1, "num_main_preds"] = None
    frame["id"] = frame["id"].astype(float)
    for name in ("image_0", "image_1"):
        frame[name] = [f"{stem}.png" for stem in frame[name]]
    frame.to_csv(tmp_path / "metadata.csv", index=False)
    items = load_dataset("winoground", tmp_path)
    assert [item.key for item in items] == ["winoground/0", "winoground/1", "winoground/2"]
    assert [item.meta.get("num_main_preds") for item in items if item.meta] == [1, None, 1]


def test_winoground_as_parquet_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    rows = [item.key for item in load_dataset("winoground", parquet(tmp_path / "root" / "whole"))]
    items = load_dataset("winoground", parquet(tmp_path / "root" / "part", num_main_preds=float("nan")))
    assert [item.key for item in items] == rows
    assert all("num_main_preds" not in item.meta for item in items if item.meta)
    lines = tmp_path / "lines"
    images(lines / "images")
    records = [
        {**record, "id": float(record["id"]), "num_main_preds": 2.0, "tag": None} for record in RECORDS
    ]
    (lines / "examples.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    items = load_dataset("winoground", lines)
    assert [item.key for item in items] == rows
    assert all(item.meta["num_main_preds"] == 2 and "tag" not in item.meta for item in items if item.meta)


@pytest.mark.parametrize("value", ["1.5", "one", "-1.0", "1.0.0", "1e3", ""])
def test_ids_that_are_no_whole_numbers(value: str, tmp_path: Path) -> None:
    images(tmp_path)
    (tmp_path / "metadata.csv").write_text(
        f"id,image_0,image_1,caption_0,caption_1\n{value},ex_0_img_0.png,ex_0_img_1.png,a b,b a\n"
    )
    with pytest.raises(DatasetError, match=r"metadata.csv, line 2: id is .*; expected a whole number"):
        load_dataset("winoground", tmp_path)


def test_comvg(tmp_path: Path) -> None:
    build("comvg", tmp_path)
    before = [(item.key, item.texts, item.images) for item in load_dataset("comvg", tmp_path)]
    lines = (tmp_path / COMVG).read_text().splitlines()
    changed = [lines[0]]
    for line in lines[1:]:
        first, rest = line.split(",", 1)
        middle, positive, negative, kind = rest.rsplit(",", 3)
        changed.append(f"{first}.0,{middle},{positive}.0,{negative}.0,{kind}")
    (tmp_path / COMVG).write_text("\n".join(changed))
    assert [(item.key, item.texts, item.images) for item in load_dataset("comvg", tmp_path)] == before


def test_vqa_csv(tmp_path: Path) -> None:
    build("vqa_csv", tmp_path)
    before = [(item.key, item.texts, item.images) for item in load_dataset("vqa_csv", tmp_path)]
    text = (tmp_path / VQA).read_text()
    for number in ("108327", "8844", "236016", "107840"):
        text = text.replace(f",{number},", f",{number}.0,").replace(f",{number}\n", f",{number}.0\n")
    assert ".0" in text
    (tmp_path / VQA).write_text(text)
    assert [(item.key, item.texts, item.images) for item in load_dataset("vqa_csv", tmp_path)] == before


def test_numbers_of_json(tmp_path: Path) -> None:
    """Keys and images are named by the number, not by how it is written."""
    vqav2(tmp_path / "whole", [*good_questions(), question(100, 2, "Is it so?", "yes/no", "no")])
    before = [(item.key, item.texts, item.meta) for item in load_dataset("vqav2", tmp_path / "whole")]
    for name, records in ((QUESTIONS, "questions"), (ANNOTATIONS, "annotations")):
        path = tmp_path / "whole" / name
        value: Any = json.loads(path.read_text())
        for record in value[records]:
            record |= {"question_id": float(record["question_id"]), "image_id": float(record["image_id"])}
        write_json(path, value)
    items = load_dataset("vqav2", tmp_path / "whole")
    assert [(item.key, item.texts, item.meta) for item in items] == before
    picture(tmp_path / "val2017" / "a.jpg")
    write_json(
        tmp_path / "captions_val2017.json",
        {
            "images": [{"id": 7.0, "file_name": "a.jpg"}],
            "annotations": [{"image_id": 7, "id": 3.0, "caption": "a dog"}],
        },
    )
    pairs = load_dataset("coco_captions", tmp_path, task="pretraining")
    assert [item.key for item in pairs] == ["coco_captions/val2017/7/3"]


def test_fields_and_cells() -> None:
    assert field({"n": 3.0}, "n", int, "here") == 3 and isinstance(field({"n": 3.0}, "n", int, "here"), int)
    assert field({"n": 3.0}, "n", (int, float), "here") == 3.0
    for value in (3.5, float("nan"), float("inf"), True, "3"):
        with pytest.raises(DatasetError, match="here: n is .*; expected int"):
            field({"n": value}, "n", int, "here")
    assert whole_number(" 0042.0 ", "here") == 42
    with pytest.raises(DatasetError, match="here is '1234.0'; expected a whole number"):
        whole_number("1234.0", "here", most=3)
