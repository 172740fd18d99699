"""VQAv2: questions joined with answers, wrong answers of the same kind, fixed lists of answers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.python.data.published_files import question, vqav2, write_json

from discffusion.data import load_dataset
from discffusion.data.vqav2.read import frequent, questions
from discffusion.errors import DatasetError

COLOURS = "red blue green black white brown pink gray tan purple orange yellow gold".split()
RECORDS = [
    question(42000, 42, "Is it raining?", "yes/no", "no", ["yes", "yes"]),
    question(42001, 42, "How many dogs are there?", "number", "2", ["3", "two", "4"]),
    question(42002, 42, "What colour is the car?", "other", "red", ["maroon", "blue"]),
    *(
        question(9000 + place, 9, f"What colour is thing {place}?", "other", colour)
        for place, colour in enumerate(COLOURS)
    ),
    *(question(8000 + n, 8, f"How many are there in row {n}?", "number", str(n)) for n in range(13)),
    question(8100, 8, "How many in all?", "number", "3"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return vqav2(tmp_path / "vqav2", RECORDS)


def test_every_question_is_an_item(root: Path) -> None:
    items = load_dataset("vqav2", root)
    assert len(items) == items.expected == len(RECORDS)
    assert items.metrics == ("accuracy", "acc@1", "vqa")
    kinds = {"yes/no": "binary", "number": "number", "other": "other"}
    for item, (asked, annotation) in zip(items, RECORDS, strict=True):
        assert item.key == f"vqav2/val/{asked['question_id']}"
        assert item.group == kinds[annotation["answer_type"]]
        name = f"COCO_val2014_{asked['image_id']:012d}.jpg"
        assert item.images == [root / "val2014" / name] and item.meta["images"] == [f"val2014/{name}"]
        assert item.meta["answers"] == [one["answer"] for one in annotation["answers"]]
        assert list(item.texts) == [f"{asked['question']} {one}" for one in item.meta["candidates"]]
        assert item.match.sum() == 1
        right = item.meta["candidates"][int(np.argmax(item.match[0]))]
        assert right == annotation["multiple_choice_answer"]
        assert len(set(item.texts)) == len(item.texts) == (2 if item.group == "binary" else 10)


def test_wrong_answers_are_of_the_same_kind_and_nobody_gave_them(root: Path) -> None:
    numbers, colours = {str(n) for n in range(13)}, set(COLOURS)
    for seed in range(20):
        items = load_dataset("vqav2", root, seed=seed)
        assert set(items[0].meta["candidates"]) == {
            "yes",
            "no",
        }  # two people said yes, and yes is still wrong
        assert set(items[1].meta["candidates"]) <= numbers - {"3", "4"}
        assert set(items[2].meta["candidates"]) <= colours - {"blue"}
        assert all(set(item.meta["candidates"]) <= numbers | colours for item in items[3:])


def test_the_order_is_drawn_and_depends_on_the_seed_and_the_question(root: Path) -> None:
    items, again, other = (load_dataset("vqav2", root, seed=seed) for seed in (0, 0, 1))
    assert [item.texts for item in items] == [item.texts for item in again]
    assert [item.texts for item in items] != [item.texts for item in other]
    subset = {item.key: item.texts for item in load_dataset("vqav2", root, subset="number")}
    assert subset == {item.key: item.texts for item in items if item.group == "number"}
    places = Counter(
        int(np.argmax(item.match[0]))
        for seed in range(30)
        for item in load_dataset("vqav2", root, seed=seed)[1:]
    )
    assert set(places) == set(range(10))


def test_frequent_answers(root: Path) -> None:
    asked = questions(
        root / "v2_OpenEnded_mscoco_val2014_questions.json", root / "v2_mscoco_val2014_annotations.json"
    )
    pools = frequent(asked)
    # 2 and 3 stand twice, the others once, in alphabetic order
    assert pools["number"] == ["2", "3", "0", "1", "10", "11", "12", "4", "5", "6", "7", "8", "9"]
    assert pools["other"] == ["red", *sorted(set(COLOURS) - {"red"})]
    same = [q._replace(answer="a Dog", kind="other") for q in asked[:2]] + [asked[3]._replace(answer="dog")]
    assert frequent(same)["other"] == ["a Dog"]


@pytest.mark.parametrize(("subset", "count"), [("binary", 1), ("number", 15), ("other", 14)])
def test_subsets(root: Path, subset: str, count: int) -> None:
    items = load_dataset("vqav2", root, subset=subset)
    assert len(items) == count and {item.group for item in items} == {subset}


def test_a_fixed_list_of_answers(root: Path) -> None:
    items = load_dataset("vqav2", root, answers=["red", "yes", "no", "2"])
    assert items.metrics == ("vqa",)
    assert items[2].texts == [f"What colour is the car? {one}" for one in ("red", "yes", "no", "2")]
    assert items[0].match.tolist() == [[False, False, True, False]]
    # blue is not in the list: nothing matches, and the question still counts
    assert items[4].meta["answers"] == ["blue"] * 10 and not items[4].match.any()
    assert len(items) == len(RECORDS)
    assert items.about["notes"] == [
        "the list of 4 answers holds the most frequent answer of 5 of 30 questions"
    ]


def test_a_file_of_answers(root: Path, tmp_path: Path) -> None:
    write_json(root / "major_answers.json", {"tan": 3, "yes": 9, "no": 9, "": 1, "2": 5})
    items = load_dataset("vqav2", root, answers="major_answers.json")
    assert items[0].meta["candidates"] == ["yes", "no", "2", "tan", ""]
    path = write_json(tmp_path / "list.json", ["b", "a"])
    listed = load_dataset("vqav2", root, answers=path)
    assert listed[0].meta["candidates"] == ["b", "a"]
    assert listed.about["answers"] != items.about["answers"]
    assert load_dataset("vqav2", root, answers="major_answers.json", candidates=2)[0].meta["candidates"] == [
        "yes",
        "no",
    ]


def test_questions_without_answers_are_refused(root: Path) -> None:
    vqav2(root, RECORDS[:1], "test2015")
    with pytest.raises(DatasetError, match="test2015 were never published.*split='val' or 'train'"):
        load_dataset("vqav2", root, split="test")
    with pytest.raises(DatasetError, match="never published"):
        load_dataset("vqav2", root, split="test-dev")


def test_the_training_split_has_its_own_files(root: Path) -> None:
    with pytest.raises(DatasetError, match="none of v2_OpenEnded_mscoco_train2014_questions.json"):
        load_dataset("vqav2", root, split="train")
    vqav2(root, RECORDS[3:], "train2014")
    items = load_dataset("vqav2", root, split="train")
    assert items[0].meta["images"] == ["train2014/COCO_train2014_000000000009.jpg"]


def test_too_few_wrong_answers(root: Path) -> None:
    assert len(load_dataset("vqav2", root, candidates=11)[1].texts) == 11
    # of 13 numbers, 2, 3 and 4 were given: ten are wrong
    with pytest.raises(
        DatasetError, match=r"annotation 28: the split has 10 wrong answers of the kind 'number'"
    ):
        load_dataset("vqav2", root, candidates=12)


def test_missing_images(root: Path) -> None:
    (root / "val2014" / "COCO_val2014_000000000042.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 images are missing, so 3 of 30 items.*val2014.zip"):
        load_dataset("vqav2", root)
    items = load_dataset("vqav2", root, allow_missing=True)
    assert (len(items), items.expected) == (27, 30)
    assert items.missing == ("COCO_val2014_000000000042.jpg",)


def test_the_first_questions(root: Path) -> None:
    items = load_dataset("vqav2", root, fraction=0.1)
    assert [item.key for item in items] == ["vqav2/val/42000", "vqav2/val/42001", "vqav2/val/42002"]
    assert items[2].texts == load_dataset("vqav2", root)[2].texts


def test_an_odd_answer_to_a_question_of_yes_or_no(tmp_path: Path) -> None:
    records = [question(1, 1, "Is it?", "yes/no", "maybe"), question(2, 1, "Is it?", "yes/no", "Yes")]
    items = load_dataset("vqav2", vqav2(tmp_path / "v", records))
    assert sorted(items[0].meta["candidates"]) == ["maybe", "no", "yes"]
    assert sorted(items[1].meta["candidates"]) == ["Yes", "no"]


def test_nothing_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(path.as_posix() for path in root.rglob("*"))
    monkeypatch.chdir(root)
    assert json.dumps(load_dataset("vqav2", root).about)
    assert sorted(path.as_posix() for path in root.rglob("*")) == before
