"""COCO captions: retrieval over all texts of the split, and pairs to train on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.python.data.published_files import picture, write_json

from discffusion import Scorer, Trainer
from discffusion.data import load_dataset
from discffusion.errors import DatasetError

# as published: captions in an order of their own, one with a line end, one that two images share, one blank
CAPTIONS = [
    (139, 5, "A woman stands in the dining area."),
    (285, 7, "A big burly grizzly bear. "),
    (632, 2, "Bedroom scene with a bookcase.\n"),
    (139, 9, "A room."),
    (632, 3, "A room."),
    (285, 11, " "),
]
IMAGES = (139, 285, 632, 724)


def write(root: Path, split: str = "val2017", name: str = "{:012d}.jpg", folder: str = "annotations") -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    write_json(
        root / folder / f"captions_{split}.json",
        {
            "info": {},
            "licenses": [],
            "images": [
                {"id": i, "file_name": name.format(i), "height": 426, "width": 640, "license": 1}
                for i in IMAGES
            ],
            "annotations": [{"image_id": image, "id": key, "caption": text} for image, key, text in CAPTIONS],
        },
    )
    for image in IMAGES:
        picture(root / split / name.format(image), seed=image)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "coco")


TEXTS = [
    "A woman stands in the dining area.",
    "A room.",
    "A big burly grizzly bear. ",
    "Bedroom scene with a bookcase.\n",
    "A room.",
]


def test_retrieval(root: Path) -> None:
    items = load_dataset("coco_captions", root)
    assert (len(items), items.expected, items.metrics) == (3, 3, ("retrieval",))
    assert [item.key for item in items] == [f"coco_captions/val2017/{image}" for image in (139, 285, 632)]
    assert all(item.texts is items[0].texts for item in items)
    assert list(items[0].texts) == TEXTS
    # the room belongs to the first and the last image, whichever of them it was written for
    assert [item.match.astype(int).tolist() for item in items] == [
        [[1, 1, 0, 0, 1]],
        [[0, 0, 1, 0, 0]],
        [[0, 1, 0, 1, 1]],
    ]
    assert items[0].images == [root / "val2017" / "000000000139.jpg"]
    assert items[0].meta["images"] == ["val2017/000000000139.jpg"]
    assert items.about == {
        "split": "val2017",
        "n_images": None,
        "task": "retrieval",
        "texts": 5,
        "notes": [
            "1 images without a caption are left out",
            "1 blank captions are left out",
            "1 texts describe more than one image and match each of them",
        ],
    }


def test_a_limit_limits_both_sides(root: Path) -> None:
    items = load_dataset("coco_captions", root, n_images=2)
    assert (len(items), items.expected) == (2, 2)
    assert list(items[1].texts) == TEXTS[:3]
    assert items[0].match.tolist() == [[True, True, False]]
    assert items.about["n_images"] == 2
    for wrong in (0, -2, 1.5, True):
        with pytest.raises(DatasetError, match="n_images is"):
            load_dataset("coco_captions", root, n_images=wrong)


def test_pretraining(root: Path) -> None:
    items = load_dataset("coco_captions", root, task="pretraining")
    assert (len(items), items.expected, items.metrics) == (5, 5, ())
    assert [(item.key, *item.texts) for item in items] == [
        ("coco_captions/val2017/139/5", TEXTS[0]),
        ("coco_captions/val2017/139/9", TEXTS[1]),
        ("coco_captions/val2017/285/7", TEXTS[2]),
        ("coco_captions/val2017/632/2", TEXTS[3]),
        ("coco_captions/val2017/632/3", TEXTS[4]),
    ]
    assert all(item.match.tolist() == [[True]] for item in items)
    assert items[1].images == items[0].images


def test_missing_images_take_their_captions_with_them(root: Path) -> None:
    (root / "val2017" / "000000000632.jpg").unlink()
    with pytest.raises(
        DatasetError, match=r"1 images are missing, so 1 of 3 .*: val2017/000000000632.jpg. .*val2017.zip"
    ):
        load_dataset("coco_captions", root)
    items = load_dataset("coco_captions", root, allow_missing=True)
    assert (len(items), items.expected, items.missing) == (2, 3, ("val2017/000000000632.jpg",))
    assert list(items[0].texts) == TEXTS[:3]
    pairs = load_dataset("coco_captions", root, task="pretraining", allow_missing=True)
    assert (len(pairs), pairs.expected) == (3, 5)
    (root / "val2017").rename(root / "away")
    with pytest.raises(DatasetError, match="3 images are missing, so 3 of 3"):
        load_dataset("coco_captions", root)


def test_an_image_without_captions_need_not_be_there(root: Path) -> None:
    (root / "val2017" / "000000000724.jpg").unlink()
    assert len(load_dataset("coco_captions", root)) == 3


@pytest.mark.parametrize("folder", ["", "annotations"])
def test_the_files_of_2014(tmp_path: Path, folder: str) -> None:
    root = write(tmp_path, "train2014", "COCO_train2014_{:012d}.jpg", folder)
    (root / "images").mkdir()
    (root / "train2014").rename(root / "images" / "train2014")
    items = load_dataset("coco_captions", root, split="train2014")
    assert items[0].images == [root / "images/train2014/COCO_train2014_000000000139.jpg"]
    assert items[0].meta["images"] == ["train2014/COCO_train2014_000000000139.jpg"]


def test_options_that_are_not_there(root: Path) -> None:
    with pytest.raises(
        DatasetError, match="no split 'test'; there are: train2014, val2014, train2017, val2017"
    ):
        load_dataset("coco_captions", root, split="test")
    with pytest.raises(DatasetError, match="no task 'captioning'; there are: retrieval, pretraining"):
        load_dataset("coco_captions", root, task="captioning")
    with pytest.raises(DatasetError, match="no subset 'a'; there are: none"):
        load_dataset("coco_captions", root, subset="a")
    with pytest.raises(DatasetError, match="holds none of captions_val2014.json"):
        load_dataset("coco_captions", root, split="val2014")


def test_pairs_train_against_those_of_their_batch(root: Path, scorer: Scorer) -> None:
    pairs = load_dataset("coco_captions", root, task="pretraining")
    history = Trainer(scorer, in_batch=True, rank=1).fit(pairs, batch_size=2, max_steps=1, progress=False)
    assert len(history) == 1


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def spoil(path: Path) -> None:
        found = json.loads(path.read_text())
        change(found)
        path.write_text(json.dumps(found))

    return spoil


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a list": (lambda path: path.write_text("[]"), "captions_val2017.json holds a list; expected an object"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:300]), "captions_val2017.json is not JSON"),
    "no images": (
        changed(lambda d: d.pop("images")),
        "captions_val2017.json has no field 'images'; it has info",
    ),
    "no annotations": (changed(lambda d: d.pop("annotations")), "has no field 'annotations'"),
    "images of numbers": (
        changed(lambda d: d.update(images=[3])),
        "images, record 0 is int; expected an object",
    ),
    "no file name": (
        changed(lambda d: d["images"][1].pop("file_name")),
        "images, record 1 has no field 'file_name'",
    ),
    "empty file name": (
        changed(lambda d: d["images"][1].update(file_name="")),
        "record 1: file_name is empty",
    ),
    "image twice": (
        changed(lambda d: d["images"][1].update(id=139)),
        "images, record 1: the id 139 occurs twice",
    ),
    "image id of text": (
        changed(lambda d: d["images"][0].update(id="139")),
        "images, record 0: id is '139'; exp",
    ),
    "caption of numbers": (
        changed(lambda d: d["annotations"][2].update(caption=5)),
        "annotations, record 2: caption is 5; expected str",
    ),
    "no image id": (
        changed(lambda d: d["annotations"][2].pop("image_id")),
        "record 2 has no field 'image_id'",
    ),
    "image that is not there": (
        changed(lambda d: d["annotations"][3].update(image_id=1)),
        "annotations, record 3: image_id is 1, and the file has no such image",
    ),
    "caption twice": (
        changed(lambda d: d["annotations"][3].update(id=5)),
        "annotations, record 3: the id 5 occurs tw",
    ),
    "no captions at all": (changed(lambda d: d.update(annotations=[])), "there are no images with captions"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, root: Path) -> None:
    spoil, pattern = BAD[name]
    spoil(root / "annotations" / "captions_val2017.json")
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("coco_captions", root)
