"""The released lists of questions and answers: rows as published, the leak counted and closed, images drawn."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.python.data.published_files import FIXTURES

from discffusion.data import load_dataset
from discffusion.errors import DatasetError

EXCERPT = FIXTURES / "vqa_text_test_excerpt.csv"
HEADER = "sentence,pos_image_id," + ",".join(f"neg_sentence_{n}" for n in range(1, 10))
LINES = [
    *(
        f"COCO_val2014_{n:012d}.jpg*The question is asking about yes or no: is it {n}? it is{' not' * (n % 2)} {n}"
        for n in range(1, 13)
    ),
    "COCO_val2014_000000000001.jpg*The question is asking about yes or no: is 2 * 3: six? it is: 2 * 3",
    *(
        f"COCO_val2014_{n:012d}.jpg*The question is asking about others: what is it? this is {n}."
        for n in range(21, 32)
    ),
    *(
        f"COCO_val2014_{n:012d}.jpg*The question is asking about numbers: how many? {n} are there"
        for n in range(41, 52)
    ),
]


def touch(root: Path, part: str, numbers: list[int] | range) -> None:
    (root / part).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (root / part / f"COCO_{part}_{number:012d}.jpg").touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "vqa_text_test.csv").write_bytes(EXCERPT.read_bytes())
    (tmp_path / "test.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    touch(tmp_path, "val2014", [108327, 8844, 236016, 107840, *range(1, 60)])
    return tmp_path


def test_rows_as_published(root: Path) -> None:
    items = load_dataset("vqa_csv", root)
    with EXCERPT.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(items) == items.expected == len(rows) == 10
    assert items.metrics == ("accuracy", "acc@1", "acc@5")
    for item, row in zip(items, rows, strict=True):
        wrong = [row[f"neg_sentence_{n}"] for n in range(1, 10)]
        assert sorted(item.texts) == sorted([row["sentence"], *wrong])
        assert [t for t, m in zip(item.texts, item.match[0], strict=True) if m] == [row["sentence"]]
        assert item.images == [root / "val2014" / f"COCO_val2014_{int(row['pos_image_id']):012d}.jpg"]
        assert item.meta["images"] == [f"val2014/COCO_val2014_{int(row['pos_image_id']):012d}.jpg"]
    assert len({item.key for item in items}) == 10
    assert "Could this be a CSA delivery? " in items[5].texts  # the answer is empty, as published
    assert len({int(np.argmax(item.match[0])) for item in items}) > 3


def test_kinds(root: Path) -> None:
    kinds = [item.group for item in load_dataset("vqa_csv", root)]
    assert kinds == "other other binary number number binary binary other number number".split()
    assert [len(load_dataset("vqa_csv", root, subset=s)) for s in ("binary", "number", "other")] == [3, 4, 3]


def test_the_leak_is_counted_and_can_be_closed(root: Path) -> None:
    assert load_dataset("vqa_csv", root).about["notes"] == [
        "3 of 10 positives end in yes/no and no negative does: these rows can be answered without the image"
    ]
    closed = load_dataset("vqa_csv", root, leaky=False)
    assert (len(closed), closed.expected) == (7, 7)
    assert not any(text.endswith((" yes", " no")) for item in closed for text in item.texts)
    assert closed.about["notes"][-1] == (
        "leaky=False: 3 of 10 rows are left out for that; the list as published has them"
    )
    keys = {item.key: item.texts for item in load_dataset("vqa_csv", root)}
    assert all(keys[item.key] == item.texts for item in closed)
    with pytest.raises(DatasetError, match="no rows of the subset 'binary' but those that leak"):
        load_dataset("vqa_csv", root, leaky=False, subset="binary")


def test_a_positive_among_the_negatives_matches_twice(root: Path) -> None:
    wrong = ["Is it? Yes", "Is it? no", *["Is it? c"] * 2, *(f"Is it? {letter}" for letter in "defgh")]
    rows = [["Is it? x", "1", *wrong], ["Is it? c", "1", *wrong]]
    text = "\n".join([HEADER, *(",".join(row) for row in rows)]) + "\n"
    (root / "vqa_text_test.csv").write_text(text, encoding="utf-8")
    items = load_dataset("vqa_csv", root)
    assert [int(item.match.sum()) for item in items] == [1, 3]
    assert all(
        (text == "Is it? c") == bool(m) for text, m in zip(items[1].texts, items[1].match[0], strict=True)
    )
    assert items.about["notes"] == [
        "0 of 2 positives end in yes/no and 2 rows have a negative that does",
        "1 of 2 rows have their positive among the negatives; it counts as a match",
        "2 of 2 rows have a negative twice",
    ]
    assert [item.key for item in load_dataset("vqa_csv", root, leaky=False)] == ["vqa_csv/test/texts/1"]


def test_training_rows_are_of_training_images(root: Path) -> None:
    (root / "data").mkdir()
    (root / "data" / "vqa_text_train.csv").write_bytes(EXCERPT.read_bytes())
    with pytest.raises(DatasetError, match=r"4 images are missing, so 10 of 10 items.*train2014.zip"):
        load_dataset("vqa_csv", root, split="train")
    touch(root, "train2014", [108327])
    items = load_dataset("vqa_csv", root, split="train", fraction=0.2)
    assert [item.key for item in items] == ["vqa_csv/train/texts/1", "vqa_csv/train/texts/2"]
    some = load_dataset("vqa_csv", root, split="train", allow_missing=True)
    assert (len(some), some.expected, len(some.missing)) == (2, 10, 3)


def test_one_text_and_ten_images(root: Path) -> None:
    items = load_dataset("vqa_csv", root, layout="images")
    assert len(items) == items.expected == len(LINES)
    assert Counter(item.group for item in items) == {"binary": 13, "other": 11, "number": 11}
    assert items[0].texts == ["is it 1? it is not 1"]
    # cut at the first star and the first colon
    assert items[12].texts == ["is 2 * 3: six? it is: 2 * 3"]
    pools = {"binary": range(1, 13), "other": range(21, 32), "number": range(41, 52)}
    for item, line in zip(items, LINES, strict=True):
        assert item.match.shape == (10, 1) and item.match.sum() == 1
        names = [path.name for path in item.images]
        assert len(set(names)) == 10
        assert names[int(np.argmax(item.match[:, 0]))] == line.partition("*")[0]
        assert all(int(name[-16:-4]) in pools[item.group] for name in names)
    assert len({item.key for item in items}) == len(LINES)


def test_images_drawn_depend_on_the_seed_and_the_line(root: Path) -> None:
    items, again, other = (load_dataset("vqa_csv", root, layout="images", seed=seed) for seed in (0, 0, 1))
    drawn = [item.meta["images"] for item in items]
    assert drawn == [item.meta["images"] for item in again] != [item.meta["images"] for item in other]
    binary = load_dataset("vqa_csv", root, layout="images", subset="binary")
    assert [item.meta["images"] for item in binary] == drawn[:13]
    (root / "val2014" / "COCO_val2014_000000000050.jpg").unlink()
    fewer = load_dataset("vqa_csv", root, layout="images", allow_missing=True)
    kept = {item.key: item.meta["images"] for item in fewer}
    assert kept == {
        i.key: i.meta["images"] for i in items if not any("050.jpg" in name for name in i.meta["images"])
    }
    assert len(fewer) < fewer.expected == len(LINES)


def test_the_layout_of_images_is_of_the_test_split(root: Path) -> None:
    with pytest.raises(DatasetError, match="no split 'train'; there are: test"):
        load_dataset("vqa_csv", root, layout="images", split="train")
    with pytest.raises(DatasetError, match="leaky=False is for layout='texts'"):
        load_dataset("vqa_csv", root, layout="images", leaky=False)


def test_nothing_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(path.as_posix() for path in root.rglob("*"))
    monkeypatch.chdir(root)
    list(load_dataset("vqa_csv", root, layout="images"))
    list(load_dataset("vqa_csv", root))
    assert sorted(path.as_posix() for path in root.rglob("*")) == before
