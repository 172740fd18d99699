"""SugarCrepe: the published records, their odd keys, and the counts of the whole files where they are at hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.data.published_files import FIXTURES, picture, write_json

from discffusion.data import load_dataset
from discffusion.data.sugarcrepe import COUNTS
from discffusion.errors import DatasetError

EXCERPT = FIXTURES / "sugarcrepe"


def with_images(root: Path, annotations: Path, kinds: tuple[str, ...], folder: str = "val2017") -> Path:
    """The files of `annotations` and an image for every record."""
    root.mkdir(parents=True, exist_ok=True)
    one = picture(root / "one.png")
    for kind in kinds:
        data = (annotations / f"{kind}.json").read_bytes()
        (root / f"{kind}.json").write_bytes(data)
        (root / folder).mkdir(parents=True, exist_ok=True)
        for record in json.loads(data).values():
            target = root / folder / record["filename"]
            if not target.exists():
                os.link(one, target)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return with_images(tmp_path / "sugarcrepe", EXCERPT, ("swap_obj", "replace_rel"))


def test_every_record_is_an_item_under_its_own_key(root: Path) -> None:
    items = load_dataset("sugarcrepe", root, subset="swap_obj")
    assert items.metrics == ("sugarcrepe", "accuracy") and items.missing == ()
    # 108 is a gap of the published file
    keys = ["0", "1", "14", "23", "107", "109", "244"]
    assert [item.key for item in items] == [f"sugarcrepe/swap_obj/{key}" for key in keys]
    assert len(items) == items.expected == 7
    item = items[0]
    caption = "A cat sits on its hind legs, and swats at the plant."
    assert sorted(item.texts) == sorted([caption, "A cat sits on the plant, and swats at its hind legs."])
    assert item.match.shape == (1, 2) and item.match.sum() == 1
    assert item.texts[int(np.argmax(item.match[0]))] == caption
    assert item.group == "swap_obj"
    assert item.images[0] == root / "val2017" / "000000222235.jpg"
    assert item.meta is not None and item.meta["images"] == ["val2017/000000222235.jpg"]


def test_texts_stay_as_published(root: Path) -> None:
    items = {
        item.key.rsplit("/", 1)[1]: item for item in load_dataset("sugarcrepe", root, subset="replace_rel")
    }
    assert "two teddy bears at a table with honey\n" in items["28"].texts


def test_the_place_of_the_positive_is_drawn_and_stays(root: Path) -> None:
    """sha256 of key and place: the places below were computed with the command sha256sum."""
    items = load_dataset("sugarcrepe", root, subset="swap_obj")
    places = [int(np.argmax(item.match[0])) for item in items]
    assert set(places) == {0, 1}
    assert places == PLACES
    assert items.about["order"] == "by sha256 of key and published place"


PLACES = [1, 1, 0, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("subset", "groups"),
    [
        ("swap_obj", {"swap_obj"}),
        ("replace_rel,swap_obj", {"swap_obj", "replace_rel"}),
        ("replace_rel, swap_obj", {"swap_obj", "replace_rel"}),
    ],
)
def test_subsets(root: Path, subset: str, groups: set[str]) -> None:
    assert {item.group for item in load_dataset("sugarcrepe", root, subset=subset)} == groups


def test_a_kind_is_all_of_its_files(root: Path) -> None:
    write_json(root / "swap_att.json", {"3": record("000000222235.jpg", "a", "b")})
    items = load_dataset("sugarcrepe", root, subset="swap")
    # in the order of the published table, whatever the order asked for
    assert [item.group for item in items] == ["swap_att"] + ["swap_obj"] * 7


def test_the_folder_data_of_the_repository(tmp_path: Path) -> None:
    with_images(tmp_path / "data", EXCERPT, ("swap_obj",), "coco/images/val2017")
    items = load_dataset("sugarcrepe", tmp_path, subset="swap_obj")
    assert items[0].images[0] == tmp_path / "data/coco/images/val2017/000000222235.jpg"


def test_images_elsewhere_have_the_same_reference(root: Path, tmp_path: Path) -> None:
    (root / "val2017").rename(tmp_path / "coco")
    items = load_dataset("sugarcrepe", root, subset="swap_obj", image_root=tmp_path / "coco")
    assert items[0].images[0] == tmp_path / "coco/000000222235.jpg"
    assert items[0].meta["images"] == ["val2017/000000222235.jpg"]


def test_counts_that_differ_from_the_published_are_stated(root: Path) -> None:
    notes = load_dataset("sugarcrepe", root, subset="swap_obj").about["notes"]
    assert notes == [
        "swap_obj.json holds 7 items; the published file has 245",
        "1 of 7 captions and 0 negatives begin or end in white space, as published",
    ]


def test_items_without_a_difference_are_stated(root: Path) -> None:
    write_json(root / "add_att.json", {str(n): record("000000222235.jpg", "a", "a") for n in range(692)})
    notes = load_dataset("sugarcrepe", root, subset="add_att").about["notes"]
    assert notes == ["692 of 692 items have the same text twice, so at most the others can be right"]


def test_missing_images(root: Path) -> None:
    (root / "val2017/000000222235.jpg").unlink()
    with pytest.raises(
        DatasetError, match=r"1 images are missing, so 1 of 7 .* val2017/000000222235.jpg. .*COCO 2017"
    ):
        load_dataset("sugarcrepe", root, subset="swap_obj")
    items = load_dataset("sugarcrepe", root, subset="swap_obj", allow_missing=True)
    assert (len(items), items.expected, items.missing) == (6, 7, ("val2017/000000222235.jpg",))
    assert items[0].key == "sugarcrepe/swap_obj/1"


def test_no_images_at_all(root: Path) -> None:
    (root / "val2017").rename(root / "elsewhere")
    with pytest.raises(DatasetError, match="7 images are missing, so 7 of 7 items"):
        load_dataset("sugarcrepe", root, subset="swap_obj")
    with pytest.raises(DatasetError, match="none of the 7 items has its images"):
        load_dataset("sugarcrepe", root, subset="swap_obj", allow_missing=True)


def record(name: Any, caption: Any, negative: Any) -> dict[str, Any]:
    return {"filename": name, "caption": caption, "negative_caption": negative}


def changed(**fields: Any) -> Callable[[Path], Any]:
    """The file with record "14" changed; None takes a field away."""

    def spoil(path: Path) -> None:
        found = json.loads(path.read_text())
        for name, value in fields.items():
            found["14"].pop(name)
            if value is not None:
                found["14"][name] = value
        path.write_text(json.dumps(found))

    return spoil


def written(data: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(data)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no JSON": (written(b'{"0": '), r"swap_obj.json is not JSON"),
    "cut off": (
        lambda path: path.write_bytes(path.read_bytes()[:900]),
        r"swap_obj.json is not JSON",
    ),
    "no UTF-8": (written(b'{"0": "\xff"}'), r"swap_obj.json is not UTF-8"),
    "a list": (written(b"[]"), r"swap_obj.json holds a list; expected an object"),
    "no records": (written(b"{}"), "swap_obj in .* hold no items"),
    "a record of text": (
        written(b'{"14": "a"}'),
        r"swap_obj.json, record '14' is a string; expected an object",
    ),
    "no caption": (changed(caption=None), r"record '14' has no field 'caption'; it has filename"),
    "caption of numbers": (changed(caption=[1]), r"record '14': caption is \[1\]; expected str"),
    "no negative": (changed(negative_caption=None), r"record '14' has no field 'negative_caption'"),
    "number as file name": (changed(filename=209753), r"record '14': filename is 209753; expected str"),
    "empty file name": (changed(filename=""), r"record '14': filename is empty"),
    "name that leads elsewhere": (
        changed(filename="../../x.jpg"),
        r"1 images are missing.*val2017/../../x.jpg",
    ),
    "deeply nested": (written(b"[" * 100_000), r"swap_obj.json is not JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, root: Path) -> None:
    spoil, pattern = BAD[name]
    spoil(root / "swap_obj.json")
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("sugarcrepe", root, subset="swap_obj")


def test_options_that_are_not_there(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"no split 'train'; there are: test"):
        load_dataset("sugarcrepe", root, split="train")
    with pytest.raises(
        DatasetError, match=r"no subset 'swap_x'; there are: add_att, .*swap_obj, add, replace, swap"
    ):
        load_dataset("sugarcrepe", root, subset="swap_obj,swap_x")
    with pytest.raises(DatasetError, match=r"holds no add_att.json; .*subset=\"replace_rel,swap_obj\""):
        load_dataset("sugarcrepe", root)
    with pytest.raises(DatasetError, match="needs root="):
        load_dataset("sugarcrepe")
    with pytest.raises(DatasetError, match="does not exist"):
        load_dataset("sugarcrepe", root / "nowhere")


@pytest.mark.skipif(
    "DISCFFUSION_DATA" not in os.environ, reason="DISCFFUSION_DATA names no folder of datasets"
)
@pytest.mark.parametrize(("kind", "images", "blank"), [("swap_obj", 224, 33), ("replace_rel", 777, 196)])
def test_the_published_files(kind: str, images: int, blank: int, tmp_path: Path) -> None:
    root = with_images(tmp_path, Path(os.environ["DISCFFUSION_DATA"]) / "sugarcrepe", (kind,))
    items = load_dataset("sugarcrepe", root, subset=kind)
    assert len(items) == items.expected == COUNTS[kind]
    assert len({item.key for item in items}) == COUNTS[kind]
    assert len({item.meta["images"][0] for item in items}) == images
    assert items.about["notes"] == [
        f"{blank} of {len(items)} captions and 0 negatives begin or end in white space, as published"
    ]
    places = [int(np.argmax(item.match[0])) for item in items]
    # a coin tossed by sha256: within five standard deviations of one half
    assert abs(np.mean(places) - 0.5) < 5 * 0.5 / np.sqrt(len(places))


def test_counts_are_those_of_the_paper() -> None:
    assert sum(COUNTS.values()) == 7511 and len(COUNTS) == 7
