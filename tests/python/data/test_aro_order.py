"""ARO's word order: captions against stored shuffles of their words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.python.data.published_files import picture, write_json

from discffusion.data import load_dataset
from discffusion.data.aro.order import plain
from discffusion.errors import DatasetError

CAPTIONS = [
    {"image": "val2014/COCO_val2014_000000391895.jpg", "caption": ["A man riding: a bike.", "Another one!"]},
    {"image": "val2014/COCO_val2014_000000060623.jpg", "caption": ["one one one"]},
]


def shuffled(folder: Path, name: str = "coco_order_test.jsonl") -> Path:
    """Stored shuffles, in another order than the captions."""
    lines = []
    for record in reversed(CAPTIONS):
        for caption in record["caption"]:
            texts = [" ".join(caption.split()[turn:] + caption.split()[:turn]) for turn in range(1, 5)]
            lines.append({"image": record["image"], "caption": caption, "shuffles": texts})
    path = folder / name
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    for record in CAPTIONS:
        picture(root / str(record["image"]))
    write_json(root / "coco_karpathy_test.json", CAPTIONS)
    shuffled(root)
    return root


def test_word_order(coco: Path) -> None:
    items = load_dataset("aro", coco, subset="coco_order")
    assert (len(items), items.metrics) == (3, ("acc@1", "accuracy"))
    assert [item.key for item in items] == [f"aro/coco_order/test/{name}" for name in ("0/0", "0/1", "1/0")]
    item = items[0]
    assert item.group == "coco_order" and item.match.shape == (1, 5) and item.match.sum() == 1
    # lower case, no colon and no full stop, in the caption and in its shuffles
    assert item.texts[int(np.argmax(item.match[0]))] == "a man riding a bike"
    assert sorted(item.texts) == sorted(
        [
            "a man riding a bike",
            "man riding a bike a",
            "riding a bike a man",
            "a bike a man riding",
            "bike a man riding a",
        ]
    )
    assert item.images == [coco / "val2014/COCO_val2014_000000391895.jpg"]
    assert item.meta["images"] == ["val2014/COCO_val2014_000000391895.jpg"]
    # "another one" has two orders, "one one one" only itself
    assert items.about["notes"] == ["2 of 3 captions are one of their own shuffles and cannot win"]


def test_word_order_of_flickr_and_elsewhere(coco: Path, tmp_path: Path) -> None:
    (coco / "coco_karpathy_test.json").rename(coco / "flickr30k_val.json")
    path = shuffled(tmp_path, "mine.jsonl")
    items = load_dataset("aro", coco, subset="flickr_order", split="val", shuffles=path)
    assert items[2].key == "aro/flickr_order/val/1/0"
    with pytest.raises(DatasetError, match="there is no file of shuffles .*flickr_order_val.jsonl"):
        load_dataset("aro", coco, subset="flickr_order", split="val")
    with pytest.raises(DatasetError, match="no split 'train'; there are: test, val"):
        load_dataset("aro", coco, subset="flickr_order", split="train")
    (coco / "val2014").rename(coco / "away")
    with pytest.raises(DatasetError, match="2 images are missing, so 3 of 3 .*Flickr30k"):
        load_dataset("aro", coco, subset="flickr_order", split="val", shuffles=path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('He said: "Go!" (twice)~', "he said go twice"),
        ("  A \n B; C#1 * ", "a b c 1"),
        ("It's 5,000 - more?", "it's 5,000 - more?"),
        ("x " * 31, " ".join("x" * 30)),
    ],
)
def test_captions_as_aro_shows_them(text: str, shown: str) -> None:
    assert plain(text) == shown


BAD_ORDER: dict[str, tuple[str, str, str]] = {
    "three shuffles": (
        "coco_order_test.jsonl",
        '{"image": "a", "caption": "b", "shuffles": ["c", "d", "e"]}',
        "line 1: s",
    ),
    "no shuffles": (
        "coco_order_test.jsonl",
        '{"image": "a", "caption": "b"}',
        "line 1 has no field 'shuffles'",
    ),
    "other captions": (
        "coco_order_test.jsonl",
        '{"image": "a", "caption": "b", "shuffles": ["c", "d", "e", "f"]}',
        "has no shuffles of caption 0 of val2014/COCO_val2014_000000391895.jpg .*coco_karpathy_test.json, record 0",
    ),
    "caption of numbers": (
        "coco_karpathy_test.json",
        '[{"image": "a", "caption": [3]}]',
        "record 0: caption 0 is '3'",
    ),
    "caption of one text": (
        "coco_karpathy_test.json",
        '[{"image": "a", "caption": "b"}]',
        "record 0: caption is 'b'",
    ),
    "no captions": ("coco_karpathy_test.json", "[]", "coco_karpathy_test.json holds no captions"),
}


@pytest.mark.parametrize("name", BAD_ORDER)
def test_bad_files_of_word_order(name: str, coco: Path) -> None:
    file, text, pattern = BAD_ORDER[name]
    (coco / file).write_text(text)
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("aro", coco, subset="coco_order")
