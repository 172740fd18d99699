"""ARO: parts of images by their boxes, and two texts each."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from tests.python.data.published_files import picture, write_json

from discffusion.data import load_dataset
from discffusion.errors import DatasetError

RELATIONS: list[dict[str, Any]] = [
    {
        "image_id": "2371374",
        "image_path": "2371374.jpg",
        "relation_name": "to the left of",
        "object1_name": "cup",
        "object2_name": "plate",
        "bbox_x": 1,
        "bbox_y": 2,
        "bbox_w": 3,
        "bbox_h": 2,
        "true_caption": "the cup is to the left of the plate",
        "false_caption": "the plate is to the left of the cup",
    },
    {
        "image_id": "1",
        "image_path": "1.jpg",
        "relation_name": "on",
        "bbox_x": 5,
        "bbox_y": 0,
        "bbox_w": 6,
        "bbox_h": 4,
        "true_caption": "the cat is on the mat",
        "false_caption": "the mat is on the cat",
    },
]
ATTRIBUTES: list[dict[str, Any]] = [
    {
        "image_id": "1",
        "image_path": "1.jpg",
        "attributes": ["black", "white"],
        "bbox_x": 0.0,
        "bbox_y": 0.0,
        "bbox_w": 8.0,
        "bbox_h": 6.0,
        "true_caption": "the black cat and the white mat",
        "false_caption": "the white cat and the black mat",
    }
]


def pixels(seed: int) -> np.ndarray:
    """What :func:`picture` draws: 8 x 6 pixels."""
    return np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "aro"
    picture(root / "images" / "2371374.jpg", seed=5)
    picture(root / "images" / "1.jpg", seed=6)
    write_json(root / "visual_genome_relation.json", RELATIONS)
    write_json(root / "visual_genome_attribution.json", ATTRIBUTES)
    return root


def test_items_of_both_files(root: Path) -> None:
    items = load_dataset("aro", root)
    assert (len(items), items.expected, items.metrics) == (3, 3, ("aro", "accuracy"))
    assert [(item.key, item.group) for item in items] == [
        ("aro/relation/0", "relation/to the left of"),
        ("aro/relation/1", "relation/on"),
        ("aro/attribution/0", "attribution/black_white"),
    ]
    assert [item.meta["images"] for item in items] == [
        ["images/2371374.jpg#1,2,3,2"],
        ["images/1.jpg#5,0,6,4"],
        ["images/1.jpg#0,0,8,6"],
    ]
    for item, record in zip(items, [*RELATIONS, *ATTRIBUTES], strict=True):
        assert item.match.shape == (1, 2) and item.match.sum() == 1
        assert item.texts[int(np.argmax(item.match[0]))] == record["true_caption"]
        assert sorted(item.texts) == sorted([record["true_caption"], record["false_caption"]])
    assert [load_dataset("aro", root, subset=name).expected for name in ("relation", "attribution")] == [2, 1]


def test_the_box_is_cut_out(root: Path) -> None:
    items = load_dataset("aro", root)
    assert (np.asarray(items[0].images[0]) == pixels(5)[2:4, 1:4]).all()
    assert (np.asarray(items[2].images[0]) == pixels(6)).all()
    # columns 8 to 10 are beyond the image
    over = np.asarray(items[1].images[0])
    assert over.shape == (4, 6, 3)
    assert (over[:, :3] == pixels(6)[:4, 5:]).all() and (over[:, 3:] == 0).all()


def test_a_turned_photograph_is_cut_as_it_is_stored(root: Path) -> None:
    """The boxes are those of the stored pixels, and a part must not be turned after it was cut."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(pixels(5)).save(root / "images" / "2371374.jpg", "PNG", exif=exif)
    part = load_dataset("aro", root)[0].images[0]
    assert (np.asarray(part) == pixels(5)[2:4, 1:4]).all()
    assert part.getexif().get(0x0112) is None


def test_the_archive_is_read_as_it_is(root: Path) -> None:
    with zipfile.ZipFile(root / "vgr_vga_images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (root / "images").iterdir():
            archive.write(path, f"images/{path.name}")
    (root / "images").rename(root.parent / "away")
    before = sorted(root.rglob("*"))
    items = load_dataset("aro", root)
    assert (np.asarray(items[0].images[0]) == pixels(5)[2:4, 1:4]).all()
    assert items[0].meta["images"] == ["images/2371374.jpg#1,2,3,2"]
    assert sorted(root.rglob("*")) == before


def test_missing_images(root: Path) -> None:
    (root / "images" / "1.jpg").unlink()
    with pytest.raises(
        DatasetError, match=r"1 images are missing, so 2 of 3 .*: images/1.jpg. .*vgr_vga_images.zip"
    ):
        load_dataset("aro", root)
    items = load_dataset("aro", root, allow_missing=True)
    assert (len(items), items.expected, items.missing) == (1, 3, ("images/1.jpg",))
    (root / "images").rename(root / "away")
    with pytest.raises(DatasetError, match="2 images are missing, so 3 of 3"):
        load_dataset("aro", root)
    assert (
        len(load_dataset("aro", root, subset="relation", image_root=root / "away", allow_missing=True)) == 1
    )


def test_options_that_are_not_there(root: Path) -> None:
    with pytest.raises(
        DatasetError, match="no subset 'colour'; there are: relation, attribution, coco_order, flickr_"
    ):
        load_dataset("aro", root, subset="colour")
    with pytest.raises(DatasetError, match="no split 'val'; there are: test"):
        load_dataset("aro", root, split="val")
    with pytest.raises(DatasetError, match="shuffles is for the subsets coco_order and flickr_order"):
        load_dataset("aro", root, shuffles="a.jsonl")
    (root / "visual_genome_attribution.json").unlink()
    with pytest.raises(DatasetError, match="holds no visual_genome_attribution.json"):
        load_dataset("aro", root)
    assert len(load_dataset("aro", root, subset="relation")) == 2


def changed(**fields: Any) -> Callable[[Path], Any]:
    """The second relation changed; None takes a field away."""

    def spoil(root: Path) -> None:
        record = {name: value for name, value in {**RELATIONS[1], **fields}.items() if value is not None}
        write_json(root / "visual_genome_relation.json", [RELATIONS[0], record])

    return spoil


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "an object": (
        lambda root: write_json(root / "visual_genome_relation.json", {}),
        "relation.json holds an object",
    ),
    "a record of text": (
        lambda root: write_json(root / "visual_genome_relation.json", ["a"]),
        "relation.json, record 0 is a string; expected an object",
    ),
    "no path": (
        changed(image_path=None),
        r"relation.json, record 1 has no field 'image_path'; it has image_id",
    ),
    "empty path": (changed(image_path=""), r"relation.json, record 1: image_path or a caption is empty"),
    "no box": (changed(bbox_h=None), r"relation.json, record 1 has no field 'bbox_h'"),
    "box of text": (changed(bbox_x="5"), r"record 1: bbox_x is '5'; expected int or float"),
    "box of no width": (changed(bbox_w=0), r"record 1: the box \[5.0, 0.0, 0.0, 4.0\] .* is not part of an"),
    "box without end": (changed(bbox_w=float("inf")), r"record 1: the box \[5.0, 0.0, inf, 4.0\]"),
    "box of another scale": (changed(bbox_w=10**30), r"record 1: the box \[5.0, 0.0, 1e\+30, 4.0\]"),
    "box that is no number": (changed(bbox_y=float("nan")), r"record 1: the box \[5.0, nan, 6.0, 4.0\]"),
    "no true caption": (changed(true_caption=None), r"record 1 has no field 'true_caption'"),
    "no relation": (changed(relation_name=None), r"record 1 has no field 'relation_name'"),
    "three attributes": (
        lambda root: write_json(
            root / "visual_genome_attribution.json", [{**ATTRIBUTES[0], "attributes": ["a", "b", "c"]}]
        ),
        r"attribution.json, record 0: attributes is .*; expected two names",
    ),
    "cut off": (
        lambda root: (root / "visual_genome_relation.json").write_text('[{"image_path"'),
        "relation.json is not JSON",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, root: Path) -> None:
    spoil, pattern = BAD[name]
    spoil(root)
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("aro", root)


def test_an_image_that_is_none(root: Path) -> None:
    (root / "images" / "1.jpg").write_bytes(b"no image")
    items = load_dataset("aro", root)
    with pytest.raises(DatasetError, match=r"visual_genome_relation.json, record 1: 1.jpg is not an image"):
        items[1]
    assert items[0].key == "aro/relation/0"
