"""VL-CheckList: the corpus of yaml and json files, the tree that its paths make, and the published limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.data.published_files import picture, write_json

from discffusion.data import load_dataset
from discffusion.errors import DatasetError
from discffusion.evaluation.metrics import METRICS
from discffusion.evaluation.record import Record


def pair(image: str, positive: Any, negative: Any) -> list[Any]:
    return [image, {"POS": [positive], "NEG": [negative]}]


# yaml below corpus/v1: its json file, IMG_ROOT as published (some with a slash at the end), records
CORPUS: dict[str, tuple[str, str, list[Any]]] = {
    "Attribute/color/vg": (
        "data/Attribute/vg/color.json",
        "vg",
        [
            pair("VG_100K_2/3968.jpg", "red emblem", "blue emblem"),
            ["VG_100K/2350447.jpg", {"POS": ["a", "b", "c"], "NEG": ["x", "y", "z"]}],
            pair("VG_100K/2351725.jpg", "pointing plane", "pointing plane"),
        ],
    ),
    "Object/Location/center/vg_obj": (
        "data/Object/Location/vg_location/vg_obj_center.json",
        "vg",
        [pair("VG_100K/2350447.jpg", "hair on man", "hair on dog")],
    ),
    "Object/Location/mid/hake": (
        "data/Object/Location/hake_location/hake_obj_mid.json",
        "hake/",
        [pair("openimages/0030feaa83a02c0d.jpg", "person hold motorcycle", "person hold bear")],
    ),
    "Object/Size/small/swig_place": ("data/Object/Size/swig_size/swig_place_small.json", "swig/", []),
    "Relation/action/swig": (
        "data/Relation/swig_action.json",
        "swig/",
        [pair("skiing_189.jpg", "an skier skis in a side", "an skier smashing in a side")],
    ),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for group, (file, folder, records) in CORPUS.items():
        path = tmp_path / "corpus" / "v1" / f"{group}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'ANNO_PATH: "{file}"\nIMG_ROOT: "{folder}"\nTYPE: "TUPLE_JSON"')
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        write_json(tmp_path / file, records)
        for image, _ in records:
            picture(tmp_path / folder / image)
    return tmp_path


def test_items_by_the_path_of_their_file(root: Path) -> None:
    items = load_dataset("vl_checklist", root)
    assert (len(items), items.expected, items.metrics) == (6, 6, ("tree", "accuracy"))
    assert [(item.key, item.group) for item in items] == [
        ("vl_checklist/Attribute/color/vg/0", "Attribute/color/vg"),
        ("vl_checklist/Attribute/color/vg/1", "Attribute/color/vg"),
        ("vl_checklist/Attribute/color/vg/2", "Attribute/color/vg"),
        ("vl_checklist/Object/Location/center/vg_obj/0", "Object/Location/center/vg/vg_obj"),
        ("vl_checklist/Object/Location/mid/hake/0", "Object/Location/mid/hake"),
        ("vl_checklist/Relation/action/swig/0", "Relation/action/swig"),
    ]
    assert [item.meta["images"][0] for item in items] == [
        "vg/VG_100K_2/3968.jpg",
        "vg/VG_100K/2350447.jpg",
        "vg/VG_100K/2351725.jpg",
        "vg/VG_100K/2350447.jpg",
        "hake/openimages/0030feaa83a02c0d.jpg",
        "swig/skiing_189.jpg",
    ]
    assert items[5].images[0] == root / "swig" / "skiing_189.jpg"
    right = [item.texts[int(np.argmax(item.match[0]))] for item in items]
    assert right == [
        "red emblem",
        "a",
        "pointing plane",
        "hair on man",
        "person hold motorcycle",
        "an skier skis in a side",
    ]
    assert all(item.match.shape == (1, 2) and item.match.sum() == 1 for item in items)


def test_the_published_means_follow_from_the_groups(root: Path) -> None:
    """A collection with two files counts once: (1/2 (0 + 1) + 0) / 2, not (0 + 1 + 0) / 3."""
    right = {"vg_obj": 0.0, "vg_subj": 1.0, "hake": 0.0}
    template = root / "corpus/v1/Object/Location/center/vg_obj.yaml"
    for name in right:
        target = template.with_name(f"{name}.yaml")
        target.write_text(template.read_text())
    records = []
    for item in load_dataset("vl_checklist", root, subset="Object/Location/center"):
        value = right[item.key.split("/")[-2]]
        records.append(Record.of(item, np.where(item.match, value, 0.5)))
    assert METRICS["tree"](records)["Object/Location/center"].value == pytest.approx(0.25)


def test_only_the_first_of_three_entries_is_used(root: Path) -> None:
    assert sorted(load_dataset("vl_checklist", root)[1].texts) == ["a", "x"]


def test_what_the_files_say_about_themselves(root: Path) -> None:
    assert load_dataset("vl_checklist", root).about == {
        "split": "test",
        "subset": None,
        "first_pairs": 1000,
        "order": "by sha256 of key and published place",
        "notes": [
            "1 json files hold no records",
            "1 of 6 records hold further texts, of which only the first is used",
            "1 of 6 records have the same text twice and can not be right",
        ],
    }


def test_the_first_pairs_of_every_file(root: Path) -> None:
    records = [pair("VG_100K/2350447.jpg", f"a {n}", f"b {n}") for n in range(1003)]
    write_json(root / CORPUS["Attribute/color/vg"][0], records)
    counts = {
        limit: len(load_dataset("vl_checklist", root, subset="Attribute", first_pairs=limit))
        for limit in (1, 1000, 2000, None)
    }
    assert counts == {1: 1, 1000: 1000, 2000: 1003, None: 1003}
    assert len(load_dataset("vl_checklist", root, subset="Attribute")) == 1000
    for wrong in (0, -1, True, 2.0, "all"):
        with pytest.raises(DatasetError, match="first_pairs is"):
            load_dataset("vl_checklist", root, first_pairs=wrong)


@pytest.mark.parametrize(
    ("subset", "count"),
    [
        ("Attribute", 3),
        ("Object", 2),
        ("Object/Location", 2),
        ("object/location/", 2),  # as the published configurations spell it
        ("Object/Location/mid", 1),
        ("Object/Location/mid/hake", 1),
        ("Object/Location/center/vg", 1),
        ("Object/Location/center/vg_obj", 1),
        ("Object/Location/center/vg/vg_obj", 1),
        ("Relation/action/swig", 1),
    ],
)
def test_subsets(root: Path, subset: str, count: int) -> None:
    assert len(load_dataset("vl_checklist", root, subset=subset)) == count


def test_options_that_are_not_there(root: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"no subset 'Object/Loc'; there are: Attribute, Attribute/color, .*"
    ):
        load_dataset("vl_checklist", root, subset="Object/Loc")
    with pytest.raises(DatasetError, match="no split 'val'; there are: test"):
        load_dataset("vl_checklist", root, split="val")
    with pytest.raises(DatasetError, match="files of Object/Size in .* hold no records"):
        load_dataset("vl_checklist", root, subset="Object/Size")


def test_a_missing_collection_and_a_missing_image(root: Path) -> None:
    (root / "hake").rename(root / "hidden")
    (root / "vg" / "VG_100K" / "2351725.jpg").unlink()
    with pytest.raises(DatasetError) as caught:
        load_dataset("vl_checklist", root)
    message = str(caught.value)
    assert "2 images are missing, so 2 of 6 items" in message
    assert "vg/VG_100K/2351725.jpg, hake/openimages/0030feaa83a02c0d.jpg" in message
    assert f"(there is no folder {root / 'hake'}); vg: the images of Visual Genome" in message
    items = load_dataset("vl_checklist", root, allow_missing=True)
    assert (len(items), items.expected) == (4, 6)
    assert items.missing == ("vg/VG_100K/2351725.jpg", "hake/openimages/0030feaa83a02c0d.jpg")


@pytest.mark.parametrize("place", ["images/vg", "datasets/vg", ""])
def test_where_users_keep_visual_genome(root: Path, place: str, tmp_path: Path) -> None:
    other = tmp_path / "pictures"
    other.mkdir()
    (root / "vg").rename(other / "moved")
    for part in ("VG_100K", "VG_100K_2"):
        (other / place).mkdir(parents=True, exist_ok=True)
        (other / "moved" / part).rename(other / place / part)
    items = load_dataset("vl_checklist", root, subset="Attribute", image_root=other)
    assert items[0].images[0] == other / place / "VG_100K_2" / "3968.jpg"
    assert items[0].meta["images"] == ["vg/VG_100K_2/3968.jpg"]


def test_an_absolute_folder_in_the_yaml(root: Path, tmp_path: Path) -> None:
    (root / "vg").rename(tmp_path / "far")
    path = root / "corpus/v1/Attribute/color/vg.yaml"
    path.write_text(f"ANNO_PATH: data/Attribute/vg/color.json\nIMG_ROOT: {tmp_path / 'far'}\n")
    assert load_dataset("vl_checklist", root, subset="Attribute")[0].images[0].is_file()


def yaml(text: str) -> Callable[[Path], Any]:
    return lambda root: (root / "corpus/v1/Attribute/color/vg.yaml").write_text(text)


def record(value: Any) -> Callable[[Path], Any]:
    """The second record of Attribute/color/vg."""

    def spoil(root: Path) -> None:
        path = root / CORPUS["Attribute/color/vg"][0]
        records = json.loads(path.read_text())
        records[1] = value
        write_json(path, records)

    return spoil


GOOD = "VG_100K/2350447.jpg"
BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "yaml of no form": (yaml('ANNO_PATH: "a\nb: ['), r"color/vg.yaml is not YAML"),
    "yaml that makes an object": (
        yaml("!!python/object/apply:os.system ['true']"),
        r"color/vg.yaml is not YAML",
    ),
    "yaml of nothing": (yaml("\n"), r"color/vg.yaml is null; expected an object"),
    "yaml without a path": (yaml("IMG_ROOT: vg"), r"color/vg.yaml has no field 'ANNO_PATH'; it has IMG_ROOT"),
    "yaml without a folder": (yaml("ANNO_PATH: a.json"), r"color/vg.yaml has no field 'IMG_ROOT'"),
    "yaml of another type": (
        yaml("ANNO_PATH: a.json\nIMG_ROOT: vg\nTYPE: CSV"),
        r"color/vg.yaml: TYPE is 'CSV'; only TUPLE_JSON",
    ),
    "json that is not there": (
        yaml("ANNO_PATH: data/none.json\nIMG_ROOT: vg"),
        r"color/vg.yaml: ANNO_PATH is data/none.json",
    ),
    "record of text": (record("a"), r"vg/color.json, record 1 is a; expected \[image"),
    "record of three": (record([GOOD, {}, {}]), r"vg/color.json, record 1 is .*; expected \[image"),
    "record without an image": (record([None, {"POS": ["a"], "NEG": ["b"]}]), r"color.json, record 1 is"),
    "record without texts": (
        record([GOOD, ["a", "b"]]),
        r"color.json, record 1 is a list; expected an object",
    ),
    "record without negatives": (record([GOOD, {"POS": ["a"]}]), r"color.json, record 1 has no field 'NEG'"),
    "positives of a text": (
        record([GOOD, {"POS": "a", "NEG": ["b"]}]),
        r"record 1: POS is 'a'; expected list",
    ),
    "no positive": (
        record([GOOD, {"POS": [], "NEG": ["b"]}]),
        r"record 1: POS is \[\]; expected a list with",
    ),
    "negative of a number": (record([GOOD, {"POS": ["a"], "NEG": [3]}]), r"record 1: NEG is \[3\]; expected"),
    "an object of records": (
        lambda root: write_json(root / CORPUS["Attribute/color/vg"][0], {"a": 1}),
        r"vg/color.json holds an object; expected a list",
    ),
    "no corpus": (
        lambda root: (root / "corpus").rename(root / "text"),
        "holds no folder corpus/v1 or vl_checklist/corpus/v1",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, root: Path) -> None:
    spoil, pattern = BAD[name]
    spoil(root)
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("vl_checklist", root)
