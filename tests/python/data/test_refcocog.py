"""RefCOCOg: splits, seeded wrong sentences, boxes and the masking of the object meant."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from tests.python.data.published_files import picture, ref, refcocog

from discffusion.data import load_dataset
from discffusion.data.options import wander
from discffusion.data.refcocog.read import plain_text
from discffusion.data.shapes.randomness import generator
from discffusion.errors import DatasetError, ImageError

REFS = [
    *(
        ref(number, number, "test", [f"the dog number {number}", f"A  dog, {number} of them "])
        for number in range(1, 9)
    ),
    # the same words about another image, once in other case and blanks
    ref(20, 3, "test", ["the cat that everybody sees"]),
    ref(21, 4, "test", ["The cat  that everybody sees"]),
    ref(30, 40, "train", ["seen in training only"]),
    ref(31, 41, "val", [f"validation {number}" for number in range(12)]),
    ref(32, 42, "val", [f"more validation {number}" for number in range(12)]),
]
TEST_SENTENCES = 18


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return refcocog(tmp_path / "refcocog", REFS)


def test_an_item_for_every_sentence_of_the_split(root: Path) -> None:
    items = load_dataset("refcocog", root)
    said = [(r, s) for r in REFS if r["split"] == "test" for s in r["sentences"]]
    assert len(items) == items.expected == len(said) == TEST_SENTENCES
    assert items.metrics == ("accuracy", "acc@1", "acc@5")
    for item, (record, sentence) in zip(items, said, strict=True):
        assert item.match.shape == (1, 10) and item.match.sum() == 1
        assert item.texts[int(np.argmax(item.match[0]))] == sentence["raw"].strip()
        name = f"COCO_train2014_{record['image_id']:012d}.jpg"
        assert item.images == [root / "train2014" / name]  # not the file name in the refs
        assert item.meta["images"] == [f"train2014/{name}"]
        assert item.meta["box"] == [10.5, 5, 8, 6] and item.meta["size"] == [40, 30]
        assert (item.meta["ref_id"], item.meta["category"]) == (record["ref_id"], "dog")
    assert len({item.key for item in items}) == TEST_SENTENCES


def test_wrong_sentences_are_of_other_images_of_the_split(root: Path) -> None:
    owners: dict[str, set[int]] = {}
    for record in REFS:
        for sentence in record["sentences"]:
            owners.setdefault(plain_text(sentence["raw"]), set()).add(record["image_id"])
    tests = {r["image_id"] for r in REFS if r["split"] == "test"}
    for item in load_dataset("refcocog", root):
        texts = [plain_text(text) for text in item.texts]
        assert len(set(texts)) == 10
        right = int(np.argmax(item.match[0]))
        for place, text in enumerate(texts):
            assert owners[text] <= tests
            assert (item.meta["image_id"] in owners[text]) == (place == right)
        assert [item.texts[right]] == [
            s["raw"].strip()
            for r in REFS
            for s in r["sentences"]
            if [r["ref_id"], s["sent_id"]] == item.meta["texts_of"][right]
        ]


def test_draws_depend_on_the_seed_and_the_sentence_alone(root: Path, tmp_path: Path) -> None:
    items, again, other = (load_dataset("refcocog", root, seed=seed) for seed in (5, 5, 6))
    assert [item.texts for item in items] == [item.texts for item in again]
    assert [item.texts for item in items] != [item.texts for item in other]
    assert items[7].texts == next(iter(items[7:])).texts
    # an image that is missing changes no other item
    (root / "train2014" / "COCO_train2014_000000000002.jpg").unlink()
    fewer = load_dataset("refcocog", root, seed=5, allow_missing=True)
    assert len(fewer) == TEST_SENTENCES - 2 and fewer.missing == ("COCO_train2014_000000000002.jpg",)
    by_key = {item.key: item for item in items}
    assert all(item.texts == by_key[item.key].texts for item in fewer)
    assert all((item.match == by_key[item.key].match).all() for item in fewer)


@pytest.mark.parametrize("count", [0, 1, 2, 10, 500])
def test_a_random_order_is_a_shuffle(count: int) -> None:
    rng, values, expected = generator("a seed"), list(range(count)), []
    for place in range(count):
        other = place + int(rng.random() * (count - place))
        values[place], values[other] = values[other], values[place]
        expected.append(values[place])
    assert list(wander(generator("a seed"), count)) == expected
    assert sorted(expected) == list(range(count))
    if count == 10:
        # stored results of earlier runs stay comparable only as long as this holds
        assert expected[:5] == [4, 6, 8, 9, 1]


def test_the_place_of_the_right_sentence_is_drawn(root: Path) -> None:
    places = Counter(
        int(np.argmax(i.match[0])) for seed in range(40) for i in load_dataset("refcocog", root, seed=seed)
    )
    count = sum(places.values())
    assert set(places) == set(range(10))
    assert max(abs(n - count / 10) for n in places.values()) < 5 * (count * 0.09) ** 0.5


def test_splits_and_ways_to_split(root: Path) -> None:
    assert len(load_dataset("refcocog", root, split="val")) == 24
    refcocog(root, [record for record in REFS if record["split"] != "test"], "google")
    items = load_dataset("refcocog", root, split_by="google")
    assert (items.about["split"], len(items)) == ("val", 24)
    with pytest.raises(DatasetError, match=r"refs\(google\).p.*no split 'test'; there are: train, val"):
        load_dataset("refcocog", root, split="test", split_by="google")
    with pytest.raises(DatasetError, match="no subset 'dogs'; there are: none"):
        load_dataset("refcocog", root, subset="dogs")


def test_notes_say_what_splits_share_and_what_was_left_out(tmp_path: Path) -> None:
    refs = [*REFS, ref(50, 41, "test", ["  ", "the last dog"])]
    notes = load_dataset("refcocog", refcocog(tmp_path / "r", refs)).about["notes"]
    assert "1 of the split's 9 images belong to another split too" in notes
    assert "1 empty sentences of the file are left out" in notes


def test_what_was_said_of_the_image_in_another_split_is_no_wrong_sentence(tmp_path: Path) -> None:
    # "number 2" is said of image 1 too, but in training
    refs = [*REFS, ref(50, 1, "train", ["The DOG number 2"])]
    items = load_dataset("refcocog", refcocog(tmp_path / "r", refs), n_texts=15)
    texts = {text for item in items if item.meta["image_id"] == 1 for text in item.texts}
    assert "the dog number 2" not in texts and "the dog number 3" in texts


def test_too_few_sentences(root: Path) -> None:
    # 17 different ones, of which an image has up to 3 itself
    assert len(load_dataset("refcocog", root, n_texts=15)[0].texts) == 15
    with pytest.raises(
        DatasetError, match=r"refs\(umd\).p: the split has 14 sentences of images other than 3"
    ):
        load_dataset("refcocog", root, n_texts=16)


def pixels(image: Any) -> np.ndarray:
    return np.asarray(image if isinstance(image, PIL.Image.Image) else PIL.Image.open(image).convert("RGB"))


@pytest.mark.parametrize("fill", ["mean", "grey"])
@pytest.mark.parametrize("mask", ["object", "rest"])
def test_masking(root: Path, mask: str, fill: str) -> None:
    plain, painted = load_dataset("refcocog", root), load_dataset("refcocog", root, mask=mask, fill=fill)
    assert (painted.about["mask"], painted.about["fill"]) == (mask, fill)
    for before, after in zip(plain, painted, strict=True):
        assert (before.key, before.texts) == (after.key, after.texts)
        assert isinstance(after.images[0], PIL.Image.Image) and after.images[0].size == (40, 30)
        old, new = pixels(before.images[0]), pixels(after.images[0])
        total = [int(old[:, :, channel].sum()) for channel in range(3)]
        colour = [round(value / 1200) for value in total] if fill == "mean" else [128, 128, 128]
        for y in range(30):
            for x in range(40):
                # the box spans 10.5 to 18.5 and 5 to 11: columns 10 to 18, rows 5 to 10
                inside = 10 <= x <= 18 and 5 <= y <= 10
                expected = colour if inside == (mask == "object") else old[y, x].tolist()
                assert new[y, x].tolist() == expected, (x, y)


def test_masks_are_painted_only_when_an_item_is_asked_for(root: Path) -> None:
    for path in (root / "train2014").iterdir():
        path.write_bytes(b"no picture")
    items = load_dataset("refcocog", root, mask="object")
    with pytest.raises(ImageError, match=r"COCO_train2014_000000000001.jpg cannot be read"):
        items[0]


def test_a_box_of_another_picture_is_noticed(root: Path) -> None:
    picture(root / "train2014" / "COCO_train2014_000000000001.jpg", (30, 40))
    with pytest.raises(
        DatasetError, match=r"ref 0: .*000001.jpg has 30 x 40 pixels, its box was drawn for 40 x 30"
    ):
        load_dataset("refcocog", root, mask="object")[0]


@pytest.mark.parametrize("box", [[-1, 0, 5, 5], [35.2, 25, 5, 5.5], [0, 0, 40, 30]])
def test_a_pixel_of_rounding_is_no_error(root: Path, box: list[float]) -> None:
    instances = json.loads((root / "instances.json").read_text())
    instances["annotations"][0]["bbox"] = box
    (root / "instances.json").write_text(json.dumps(instances))
    assert load_dataset("refcocog", root)[0].meta["box"] == box
    assert load_dataset("refcocog", root, mask="object")[0].images[0].size == (40, 30)


def test_the_first_sentences(root: Path) -> None:
    items = load_dataset("refcocog", root, fraction=0.25)  # int(4.5)
    assert [item.key for item in items] == [item.key for item in load_dataset("refcocog", root)][:4]
    assert items[3].texts == load_dataset("refcocog", root)[3].texts


def test_nothing_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(path.as_posix() for path in root.rglob("*"))
    monkeypatch.chdir(root)
    list(load_dataset("refcocog", root, mask="rest"))
    assert sorted(path.as_posix() for path in root.rglob("*")) == before
