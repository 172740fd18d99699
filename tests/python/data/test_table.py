"""Tables of the user's own: every layout, from every kind of file."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python import bad_files as bad
from tests.python.data.published_files import picture
from tests.python.data.tables import WRITERS, Rows, as_csv, as_jsonl, as_parquet

from discffusion.data import load_dataset
from discffusion.data.order import in_drawn_order
from discffusion.errors import DatasetError

PNG, JPEG = bad.encoded("PNG"), bad.encoded("JPEG")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, name in enumerate(("a", "b", "c")):
        picture(tmp_path / "pictures" / f"{name}.png", seed=seed)
    return tmp_path


CHOICES: Rows = [
    {
        "filepath": "pictures/a.png",
        "title": 'a dog, "sitting"',
        "no_1": "a cat",
        "no_2": "a cow",
        "kind": "animal",
    },
    {
        "filepath": "pictures/b.png",
        "title": "a red cup\nand a plate",
        "no_1": "a blue cup",
        "no_2": "",
        "kind": "thing",
    },
]


@pytest.mark.parametrize("kind", WRITERS)
def test_an_image_with_texts_to_choose_from(kind: str, root: Path) -> None:
    path = WRITERS[kind](root / f"mine.{kind}", CHOICES)
    items = load_dataset(
        "table",
        path,
        image="filepath",
        text="title",
        negative_texts=["no_1", "no_2"],
        group="kind",
        meta="no_1",
    )
    assert (len(items), items.expected, items.metrics) == (2, 2, ("accuracy", "acc@1"))
    assert [(item.key, item.group) for item in items] == [("0", "animal"), ("1", "thing")]
    for item, row in zip(items, CHOICES, strict=True):
        # an empty cell is no negative
        others = [row[name] for name in ("no_1", "no_2") if row[name]]
        assert sorted(item.texts) == sorted([row["title"], *others])
        assert item.match.shape == (1, 1 + len(others)) and item.match.sum() == 1
        assert item.texts[int(np.argmax(item.match[0]))] == row["title"]
        assert item.images == [root / row["filepath"]]
        assert item.meta == {"images": [row["filepath"]], "no_1": row["no_1"]}
    assert items.about == {
        "subset": None,
        "file": f"mine.{kind}",
        "roles": {
            "image": ("filepath",),
            "text": ("title",),
            "negative_texts": ("no_1", "no_2"),
            "group": "kind",
            "meta": ("no_1",),
        },
        "order": "by sha256 of key and published place",
    }


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_cells_that_hold_lists(kind: str, root: Path) -> None:
    rows = [{"image": "pictures/a.png", "text": ["a dog", "an animal"], "no": ["a cat", "a cow", "a hen"]}]
    item = load_dataset("table", WRITERS[kind](root / f"mine.{kind}", rows), negative_texts="no")[0]
    assert sorted(item.texts) == ["a cat", "a cow", "a dog", "a hen", "an animal"]
    right = {text for text, match in zip(item.texts, item.match[0], strict=True) if match}
    assert right == {"a dog", "an animal"}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_text_with_images_to_choose_from(kind: str, root: Path) -> None:
    rows = [
        {
            "name": "x",
            "text": "a dog",
            "good": "pictures/a.png",
            "bad_1": "pictures/b.png",
            "bad_2": "pictures/c.png",
        }
    ]
    path = WRITERS[kind](root / f"mine.{kind}", rows)
    item = load_dataset("table", path, image="good", negative_images=["bad_1", "bad_2"], key="name")[0]
    assert item.key == "x" and list(item.texts) == ["a dog"]
    assert item.match.shape == (3, 1) and item.match.sum() == 1
    assert item.images[int(np.argmax(item.match[:, 0]))] == root / "pictures/a.png"
    assert sorted(item.meta["images"]) == ["pictures/a.png", "pictures/b.png", "pictures/c.png"]
    assert [str(root / name) for name in item.meta["images"]] == [str(image) for image in item.images]


@pytest.mark.parametrize("kind", WRITERS)
def test_images_with_a_text_each(kind: str, root: Path) -> None:
    rows = [{"i0": "pictures/a.png", "i1": "pictures/b.png", "t0": "a dog on a mat", "t1": "a mat on a dog"}]
    path = WRITERS[kind](root / f"mine.{kind}", rows)
    items = load_dataset("table", path, image=["i0", "i1"], text=["t0", "t1"])
    assert items.metrics == ("winoground", "accuracy")
    assert items[0].match.tolist() == [[True, False], [False, True]]
    assert items[0].images == [root / "pictures/a.png", root / "pictures/b.png"]
    assert list(items[0].texts) == ["a dog on a mat", "a mat on a dog"]


@pytest.mark.parametrize("kind", WRITERS)
def test_pairs_with_a_label(kind: str, root: Path) -> None:
    labels = {"csv": ("1", "0", "true", "False"), "tsv": ("1", "0", "true", "False")}.get(
        kind, (True, False, True, False)
    )
    rows = [
        {"q": "first", "image": "pictures/a.png", "text": "a dog", "label": labels[0]},
        {"q": "second", "image": "pictures/b.png", "text": "a cup", "label": labels[2]},
        {"q": "first", "image": "pictures/a.png", "text": "a cat", "label": labels[1]},
        {"q": "second", "image": "pictures/c.png", "text": "a cup", "label": labels[3]},
        {"q": "first", "image": "pictures/a.png", "text": "a dog", "label": labels[0]},
    ]
    items = load_dataset("table", WRITERS[kind](root / f"mine.{kind}", rows), label="label", key="q")
    assert (len(items), items.expected, items.metrics) == (2, 2, ("accuracy", "acc@1"))
    assert [item.key for item in items] == ["first", "second"]
    assert list(items[0].texts) == ["a dog", "a cat"] and items[0].match.tolist() == [[True, False]]
    assert items[1].match.tolist() == [[True], [False]]
    assert items[1].meta["images"] == ["pictures/b.png", "pictures/c.png"]
    # without a key every row stands alone: only the scale of the score can be judged
    alone = load_dataset("table", root / f"mine.{kind}", label="label")
    assert (len(alone), alone.metrics) == (5, ("calibration",))
    assert [bool(item.match[0, 0]) for item in alone] == [True, True, False, False, True]


def test_retrieval_and_pretraining(root: Path) -> None:
    rows = [
        {"image": "pictures/a.png", "text": "a dog"},
        {"image": "pictures/b.png", "text": "a cup"},
        {"image": "pictures/a.png", "text": "an animal"},
    ]
    path = as_csv(root / "mine.csv", rows)
    pairs = load_dataset("table", path)
    assert (len(pairs), pairs.metrics, pairs.about["task"]) == (3, (), "pretraining")
    assert [(item.key, *item.texts) for item in pairs] == [
        ("0/0", "a dog"),
        ("1/0", "a cup"),
        ("2/0", "an animal"),
    ]
    items = load_dataset("table", path, task="retrieval")
    assert (len(items), items.metrics) == (2, ("retrieval",))
    assert list(items[0].texts) == ["a dog", "an animal", "a cup"]
    assert [item.match.astype(int).tolist() for item in items] == [[[1, 1, 0]], [[0, 0, 1]]]


def test_pictures_in_a_parquet_file(root: Path) -> None:
    rows = [
        {"image": {"bytes": PNG, "path": "a.png"}, "text": "a dog", "no": "a cat"},
        {"image": {"bytes": None, "path": "pictures/b.png"}, "text": "a cup", "no": "a jug"},
        {"image": {"bytes": JPEG, "path": None}, "text": "a dog", "no": "a cow"},
    ]
    items = load_dataset("table", as_parquet(root / "mine.parquet", rows), negative_texts="no")
    assert [item.images for item in items] == [[PNG], [root / "pictures/b.png"], [JPEG]]
    # identity by contents, wherever the row stands and whatever the name says
    digests = [f"sha256:{hashlib.sha256(data).hexdigest()[:16]}" for data in (PNG, JPEG)]
    assert [item.meta["images"][0] for item in items] == [digests[0], "pictures/b.png", digests[1]]
    plain = as_parquet(root / "plain.parquet", [{"image": PNG, "text": "x", "no": "y"}])
    assert load_dataset("table", plain, negative_texts="no")[0].images == [PNG]


@pytest.mark.parametrize("task", [None, "retrieval"])
def test_the_same_picture_in_several_rows_of_a_parquet_file(task: str | None, root: Path) -> None:
    rows = [
        {"image": {"bytes": data, "path": None}, "text": text, "key": "x", "label": label}
        for data, text, label in (
            (PNG, "a dog", 1),
            (PNG, "a cat", 0),
            (JPEG, "a dog", 0),
            (JPEG, "a cat", 1),
        )
    ]
    path = as_parquet(root / "mine.parquet", rows)
    if task is None:
        item = load_dataset("table", path, label="label", key="key")[0]
        assert item.images == [PNG, JPEG] and item.match.tolist() == [[True, False], [False, True]]
    else:
        items = load_dataset("table", path, task=task)
        assert [item.images for item in items] == [[PNG], [JPEG]]
        assert list(items[0].texts) == ["a dog", "a cat", "a dog", "a cat"]


def test_where_paths_start(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("table")
    rows = [{"image": "a.png", "text": "a dog", "no": "a cat"}]
    path = as_csv(other / "mine.csv", rows)
    with pytest.raises(
        DatasetError, match="1 images are missing.*: a.png. Paths in the table are absolute, or relative"
    ):
        load_dataset("table", path, negative_texts="no")
    item = load_dataset("table", path, negative_texts="no", image_root=root / "pictures")[0]
    assert item.images == [root / "pictures" / "a.png"]
    full = str(root / "pictures" / "a.png")
    item = load_dataset("table", as_csv(path, [{**rows[0], "image": full}]), negative_texts="no")[0]
    assert item.images == [Path(full)] and item.meta["images"] == [full]


def test_splits_are_files_of_a_folder(root: Path) -> None:
    rows = [{"image": "pictures/a.png", "text": "a dog", "no": "a cat"}]
    as_csv(root / "test.csv", rows)
    assert len(load_dataset("table", root, negative_texts="no")) == 1  # the only one
    as_jsonl(root / "train.jsonl", rows * 2)
    assert len(load_dataset("table", root, split="train", negative_texts="no")) == 2
    with pytest.raises(DatasetError, match="holds 2 tables, so one has to be named as split=: test, train"):
        load_dataset("table", root)
    with pytest.raises(DatasetError, match="no split 'val'; there are: test, train"):
        load_dataset("table", root, split="val")
    with pytest.raises(DatasetError, match="split='test' is for a folder of files"):
        load_dataset("table", root / "test.csv", split="test")


def test_subsets_are_groups(root: Path) -> None:
    path = as_csv(root / "mine.csv", CHOICES)
    options: dict[str, Any] = {"image": "filepath", "text": "title", "negative_texts": ["no_1", "no_2"]}
    items = load_dataset("table", path, subset="thing", group="kind", **options)
    assert [item.key for item in items] == ["1"]
    with pytest.raises(DatasetError, match="no subset 'plant'; there are: animal, thing"):
        load_dataset("table", path, subset="plant", group="kind", **options)
    with pytest.raises(DatasetError, match="subset='thing' needs group="):
        load_dataset("table", path, subset="thing", **options)


def test_missing_images(root: Path) -> None:
    rows = [{**CHOICES[0], "filepath": f"pictures/{name}.png"} for name in "abc"]
    path = as_csv(root / "mine.csv", rows)
    options: dict[str, Any] = {"image": "filepath", "text": "title", "negative_texts": "no_1"}
    (root / "pictures" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"1 images are missing, so 1 of 3 items .*: pictures/b.png"):
        load_dataset("table", path, **options)
    items = load_dataset("table", path, allow_missing=True, **options)
    assert [item.key for item in items] == ["0", "2"]
    assert (items.expected, items.missing) == (3, ("pictures/b.png",))
    labelled = as_csv(
        root / "pairs.csv",
        [{"image": row["filepath"], "text": "x", "y": 1, "k": n} for n, row in enumerate(rows)],
    )
    items = load_dataset("table", labelled, label="y", key="k", allow_missing=True)
    assert ([item.key for item in items], items.expected) == (["0", "2"], 3)
    (root / "pictures").rename(root / "away")
    with pytest.raises(DatasetError, match="3 images are missing, so 3 of 3 items"):
        load_dataset("table", path, **options)


def test_the_drawn_order_is_fair_and_fixed() -> None:
    """The place of the positive among four, for a thousand keys: within five standard deviations of a quarter each."""
    places = [int(np.argmax(in_drawn_order(str(key), ["+"], ["a", "b", "c"])[1])) for key in range(1000)]
    for place in range(4):
        assert abs(places.count(place) - 250) < 5 * math.sqrt(1000 * 0.25 * 0.75)
    # by hand: the candidates of key "x" in the order of their digests
    digests = {name: hashlib.sha256(f"x\n{place}".encode()).hexdigest() for place, name in enumerate("+ab")}
    assert in_drawn_order("x", ["+"], ["a", "b"])[0] == sorted(digests, key=lambda name: digests[name])
