"""The data of the places: drawn scenes, and files made to the published schema."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from tests.python.data.published_files import ref, refcocog
from tests.python.reproduce.comvg import write_comvg
from tests.python.reproduce.made_up import TINY

from discffusion.data import coco_captions
from discffusion.data.item import MatchItem
from discffusion.data.lazy import Dataset
from discffusion.errors import ConfigError, DatasetError
from discffusion.reproduce.baselines import in_batches
from discffusion.reproduce.files import Files
from discffusion.reproduce.scale import FULL
from discffusion.reproduce.sources import BENCHMARKS, sources
from discffusion.reproduce.stand_in import Shapes, painted_over


def names(items: Any) -> set[str]:
    return {name for item in items for name in (item.meta or {})["images"]}


def test_shapes_fill_every_place_and_files_come_first(tmp_path: Path) -> None:
    found = sources([("shapes", None)], TINY, 32)
    assert set(found) == set(BENCHMARKS)
    found = sources([("shapes", None), ("comvg", str(tmp_path))], TINY, 32)
    assert {place for place, source in found.items() if source.name != "shapes"} == {"composition"}
    assert set(sources([("comvg", str(tmp_path))], TINY, 32)) == {"composition"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([("sugarcrepe", "x")], "no place for the dataset 'sugarcrepe'.*comvg"),
        ([("nothing", None)], "no place for the dataset 'nothing'"),
        ([("comvg", None)], "comvg is read from files: give its folder, as --data comvg=FOLDER"),
        ([("vqav2", "x"), ("vqa_csv", "y")], "vqa_csv and vqav2 stand in the same place"),
    ],
)
def test_data_that_cannot_be(data: list[tuple[str, str | None]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sources(data, TINY, 32)


def test_shapes_that_are_tested_are_never_trained_on() -> None:
    for place in BENCHMARKS:
        source = Shapes(place, TINY, 32)
        tested = [tuple(item.texts) for item in source.test()]
        assert len(tested) == TINY.items.get(place, 0) or place in ("composition", "checklist", "captions")
        assert source.test().about["split"] == "test"
        for recipe in ("few", "extreme", "captions"):
            trained = source.train(recipe, 0)
            assert trained.about["split"] == "train"
            assert trained[0].key != source.train(recipe, 1)[0].key
    assert len(Shapes("composition", TINY, 32).test()) == 4 * TINY.items["composition"]
    assert Counter(item.group for item in Shapes("composition", TINY, 32).test()) == Counter(
        dict.fromkeys(("subject", "object", "attribute", "predicate"), TINY.items["composition"])
    )


def test_captions_are_one_image_and_its_own_text() -> None:
    captions = Shapes("captions", TINY, 32).train("captions", 0)
    assert len(captions) == TINY.shots["captions"]
    for caption in captions:
        assert caption.match.tolist() == [[True]]
        assert len({item.key for item in captions}) == len(captions)


def test_captions_in_batches_match_where_they_are_the_same() -> None:
    texts = ["a", "b", "a", "c", "d"]
    image = PIL.Image.new("RGB", (4, 4))
    single = [MatchItem(str(k), [image], [text], np.ones((1, 1), bool)) for k, text in enumerate(texts)]
    items: Dataset[int] = Dataset("captions", range(5), single.__getitem__)
    found = in_batches(items, 3)
    assert len(found) == 2
    assert found[0].match.tolist() == [[True, False, True], [False, True, False], [True, False, True]]
    assert found[1].match.tolist() == [[True, False], [False, True]]
    # one caption left over has nothing to be compared with
    assert len(in_batches(Dataset("captions", range(4), single.__getitem__), 3)) == 1


def test_painting_over() -> None:
    values = np.zeros((4, 6, 3), np.uint8)
    values[1:3, 2:5] = 240
    whole = painted_over(PIL.Image.fromarray(values), [(2.0, 1.0, 3.0, 2.0)])
    assert np.array(whole).max() == 60  # 6 of 24 pixels were 240, and these have the mean now
    assert np.array(whole)[1:3, 2:5].min() == 60
    assert np.array(whole)[0].max() == 0
    # a box beyond the edge, and fractions of a pixel
    corner = np.array(painted_over(PIL.Image.fromarray(values), [(-1.5, -1.0, 2.2, 1.5)]))
    assert (corner != values).any(axis=2).sum() == 1


def test_masking_the_stand_in_keeps_everything_but_the_thing() -> None:
    source = Shapes("referring", TINY, 32)
    for plain, masked, both in zip(source.test(), source.masked(False), source.masked(True), strict=True):
        assert (plain.key, plain.texts) == (masked.key, masked.texts)
        (_, x, y, width, height), _ = plain.meta["boxes"][0]  # type: ignore[index]
        changed = (np.array(plain.images[0]) != np.array(masked.images[0])).any(axis=2)
        rows, columns = np.nonzero(changed)
        assert changed.any()
        assert rows.min() >= np.floor(y)
        assert rows.max() < np.ceil(y + height)
        assert columns.min() >= np.floor(x)
        assert columns.max() < np.ceil(x + width)
        assert (np.array(plain.images[0]) != np.array(both.images[0])).any(axis=2).sum() >= changed.sum()
    assert source.masked(False).about != source.test().about != source.masked(True).about


def test_comvg_is_cut_by_images(tmp_path: Path) -> None:
    write_comvg(tmp_path, rows=200)
    source = Files("composition", "comvg", str(tmp_path), FULL)
    tested, few, extreme = source.test(), source.train("few", 0), source.train("extreme", 0)
    assert not names(tested) & names(few)
    assert names(extreme) <= names(few)
    assert (len(few), len(extreme)) == (10, 1)
    assert [item.key for item in few] == [
        item.key for item in source.train("few", 1)
    ]  # the same for all seeds
    (note,) = source.notes()
    assert note.startswith(f"comvg: trained on 10 and measured on {len(tested)} of 200 rows")
    assert "no image that is tested was trained on" in note
    # where it is cut does not depend on the run
    again = Files("composition", "comvg", str(tmp_path), FULL)
    assert again.test().about == tested.about


def test_a_limit_is_stated(tmp_path: Path) -> None:
    write_comvg(tmp_path, rows=200)
    scale = replace(FULL, limit=30, most={"few": 4})
    source = Files("composition", "comvg", str(tmp_path), scale)
    tested = source.test()
    assert len(tested) == 30
    assert Counter(item.group for item in tested) == {"subject": 10, "object": 10, "predicate": 10}
    assert len(source.train("few", 0)) == 4
    assert not names(tested) & names(source.train("few", 0))
    assert any(note.startswith("comvg: 30 of ") for note in source.notes())
    assert any("4 of 10 items to train on (few)" in note for note in source.notes())
    whole = Files("composition", "comvg", str(tmp_path), FULL).test()
    assert tested.about != whole.about


def test_missing_images_are_an_error_or_are_counted(tmp_path: Path) -> None:
    write_comvg(tmp_path, rows=200)
    for number in (0, 1, 50):
        (tmp_path / "vg_concept" / f"{number}.jpg").unlink()
    with pytest.raises(DatasetError, match=r"0\.jpg"):
        Files("composition", "comvg", str(tmp_path), FULL).test()
    source = Files("composition", "comvg", str(tmp_path), FULL, allow_missing=True)
    tested = source.test()
    assert len(tested) + len(source.train("few", 0)) == 196
    assert "comvg: 4 of 200 items lack their images and were left out" in source.remarks()


def test_refcocog_has_splits_of_its_own_and_masks_its_object(tmp_path: Path) -> None:
    refs = [
        ref(number, number, "train" if number <= 40 else "test", [f"thing {number}"])
        for number in range(1, 61)
    ]
    refcocog(tmp_path, refs)
    source = Files("referring", "refcocog", str(tmp_path), FULL)
    tested, few = source.test(), source.train("few", 0)
    assert (len(tested), len(few)) == (20, 2)  # 5 % of the split to train on
    assert not names(tested) & names(few)
    masked = source.masked(both=False)
    assert len(masked) == len(tested)
    assert (tested.about["mask"], masked.about["mask"]) == (None, "object")
    limited = Files("referring", "refcocog", str(tmp_path), replace(FULL, limit=5))
    assert len(limited.test()) == len(limited.masked(both=False)) == 5
    assert any("were drawn" in note or "drawn from other images" in note for note in source.remarks())


@pytest.mark.parametrize("name", sorted({name for place in BENCHMARKS.values() for name in place.datasets}))
def test_the_options_that_are_asked_of_a_dataset_exist(name: str) -> None:
    known = inspect.signature(importlib.import_module(f"discffusion.data.{name}").load).parameters
    train, test = Files.OPTIONS.get(name, ({}, {}))
    assert set(train) | set(test) <= set(known)
    assert "split" not in train or name != "coco_captions" or train["split"] in coco_captions.SPLITS
