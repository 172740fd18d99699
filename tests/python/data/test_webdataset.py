"""Tar shards: as img2dataset and CLIP_benchmark write them, found in every way they are named."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.python.data.shards import JPEG, PNG, WEBP, classes, shard

from discffusion.data import load_dataset
from discffusion.data.archives.tar import expand, members, read_member
from discffusion.errors import DatasetError


def img2dataset(root: Path) -> Path:
    """Two shards with a table of statistics beside them."""
    for place in range(2):
        files = {}
        for number in range(2):
            key = f"{place:05d}{number:04d}"
            told = {"caption": f"json {key}", "url": "https://example.com/a.jpg", "width": 16, "key": key}
            files |= {
                f"{key}.jpg": JPEG,
                f"{key}.txt": f"text {key}".encode(),
                f"{key}.json": json.dumps(told).encode(),
            }
        shard(root / f"{place:05d}.tar", files)
        (root / f"{place:05d}_stats.json").write_text("{}")
    return root


KEYS = [
    f"{name}.tar/{key}"
    for name, keys in (("00000", ("000000000", "000000001")), ("00001", ("000010000", "000010001")))
    for key in keys
]


def test_samples_of_img2dataset(tmp_path: Path) -> None:
    items = load_dataset("webdataset", img2dataset(tmp_path))
    # one caption a sample, and nothing says that the set is for retrieval
    assert items.metrics == () and items.about["task"] == "pretraining"
    assert items.about["shards"] == ["00000.tar", "00001.tar", 2]
    assert [item.key for item in items] == [f"{key}/0" for key in KEYS]
    assert [list(item.texts) for item in items] == [[f"text {key.split('/')[1]}"] for key in KEYS]
    assert all(item.images[0] == JPEG and item.match.tolist() == [[True]] for item in items)
    assert items[3].meta["images"] == ["00001.tar/000010001.jpg"]


def test_captions_from_a_field_of_the_json(tmp_path: Path) -> None:
    items = load_dataset("webdataset", img2dataset(tmp_path), json_text_key="caption", task="retrieval")
    assert [item.key for item in items] == KEYS
    assert list(items[0].texts) == [f"json {key.split('/')[1]}" for key in KEYS]
    assert items[2].match.tolist() == [[False, False, True, False]]
    assert all(item.texts is items[0].texts for item in items)
    with pytest.raises(
        DatasetError, match=r"00000.tar, member '000000000.json' has no field 'alt'; it has caption, url"
    ):
        load_dataset("webdataset", tmp_path, json_text_key="alt")


def ways(root: Path) -> dict[str, Any]:
    return {
        "folder": root,
        "text": str(root),
        "pattern": f"{root}/{{00000..00001}}.tar",
        "choices": f"{root}/{{00000,00001}}.tar",
        "list": [root / "00000.tar", f"{root}/00001.tar"],
        "list with a pattern": [f"{root}/{{00000..00001}}.tar"],
    }


@pytest.mark.parametrize("way", ["folder", "text", "pattern", "choices", "list", "list with a pattern"])
def test_every_way_to_name_shards(way: str, tmp_path: Path) -> None:
    root = img2dataset(tmp_path / "shards")
    assert [item.key for item in load_dataset("webdataset", ways(root)[way])] == [f"{key}/0" for key in KEYS]


def test_one_shard(tmp_path: Path) -> None:
    items = load_dataset("webdataset", img2dataset(tmp_path) / "00001.tar")
    assert [item.key for item in items] == [f"{key}/0" for key in KEYS[2:]]


def test_shards_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    paths = [shard(tmp_path / part / "0.tar", {"a.jpg": JPEG, "a.txt": b"x"}) for part in ("train", "extra")]
    items = load_dataset("webdataset", paths)
    assert [item.key for item in items] == ["train/0.tar/a/0", "extra/0.tar/a/0"]
    with pytest.raises(DatasetError, match="a shard is named twice"):
        load_dataset("webdataset", [paths[0], paths[0]])


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{8..10}", ["8", "9", "10"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
    ],
)
def test_patterns(pattern: str, names: list[str]) -> None:
    assert expand(pattern) == names


def test_clip_benchmark_for_retrieval(tmp_path: Path) -> None:
    (tmp_path / "dataset_type.txt").write_text("retrieval\n")
    for split, count in (("test", 2), ("train", 1)):
        for place in range(count):
            files = {"s0000000.webp": WEBP, "s0000000.txt": f"{split} {place} a\n{split} {place} b".encode()}
            shard(tmp_path / split / f"{place}.tar", files)
        (tmp_path / split / "nshards.txt").write_text(f"{count}\n")
    items = load_dataset("webdataset", tmp_path)
    assert items.metrics == ("retrieval",)
    assert list(items[0].texts) == ["test 0 a", "test 0 b", "test 1 a", "test 1 b"]
    assert items[1].match.tolist() == [[False, False, True, True]]
    assert [item.key for item in items] == ["0.tar/s0000000", "1.tar/s0000000"]
    assert items[0].images[0] == WEBP
    assert len(load_dataset("webdataset", tmp_path, split="train")) == 1
    # the same shards as text that is one caption
    whole = load_dataset("webdataset", tmp_path, split="train", caption_lines=False)
    assert list(whole[0].texts) == ["train 0 a\ntrain 0 b"]
    with pytest.raises(DatasetError, match="has no split 'val'; there are: test, train"):
        load_dataset("webdataset", tmp_path, split="val")
    (tmp_path / "test" / "1.tar").unlink()
    with pytest.raises(DatasetError, match=r"1 of 2 shards do not exist: .*/test/1.tar"):
        load_dataset("webdataset", tmp_path)


def test_more_shards_than_ten_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for place in range(11):
        shard(tmp_path / "test" / f"{place}.tar", {"s.png": PNG, "s.txt": b"x"})
    (tmp_path / "test" / "nshards.txt").write_text("11")
    keys = [item.key for item in load_dataset("webdataset", tmp_path, split="test")]
    assert keys == [f"{place}.tar/s/0" for place in range(11)]


def test_clip_benchmark_for_classification(tmp_path: Path) -> None:
    items = load_dataset("webdataset", classes(tmp_path))
    assert (items.metrics, items.about["task"]) == (("acc@1", "acc@5"), "classification")
    texts = ["a bad photo of a crane.", "a bad photo of a ship.", "a bad photo of a crane."]
    assert all(list(item.texts) == texts for item in items)
    # both cranes read the same, so neither can be wrong
    assert [item.match.astype(int).tolist() for item in items] == [[[0, 1, 0]], [[1, 0, 1]]]
    assert [item.meta["class"] for item in items] == [1, 2]
    assert list(load_dataset("webdataset", tmp_path, template="{c}")[0].texts) == ["crane", "ship", "crane"]


def test_names_that_lead_elsewhere_are_only_names(tmp_path: Path) -> None:
    files = {"../../etc/a.jpg": JPEG, "../../etc/a.txt": b"x", "/abs/b.jpg": JPEG, "/abs/b.txt": b"y"}
    root = tmp_path / "deep" / "shards"
    shard(root / "0.tar", files)
    before = sorted(tmp_path.rglob("*"))
    items = load_dataset("webdataset", root)
    assert [item.key for item in items] == ["0.tar/../../etc/a/0", "0.tar//abs/b/0"]
    assert items[1].images[0] == JPEG
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_no_sample_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in (("a.JPG", JPEG), ("._a.jpg", b"fork"), ("README", b"read me"), ("a.seg.png", PNG)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        link = tarfile.TarInfo("passwd.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        info = tarfile.TarInfo("a.txt")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"ok"))
    items = load_dataset("webdataset", path)
    assert [(item.key, *item.texts) for item in items] == [("0.tar/a/0", "ok")]
    assert items[0].images[0] == JPEG


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_index_of_members_is_that_of_tarfile(kind: int, tmp_path: Path) -> None:
    files = {f"{'long/' * 30}{n}.bin": os.urandom(n * 100) for n in range(12)}
    if kind == tarfile.USTAR_FORMAT:
        files = {name[-90:].lstrip("/"): data for name, data in files.items()}
    path = shard(tmp_path / "0.tar", files, kind=kind)
    found, ended = members(path)
    assert ended
    assert {member.name: read_member(path, member) for member in found} == files


def test_missing_images(tmp_path: Path) -> None:
    path = shard(
        tmp_path / "0.tar", {"a.txt": b"x", "b.jpg": JPEG, "b.txt": b"y", "c.jpg": b"", "c.txt": b"z"}
    )
    with pytest.raises(DatasetError, match=r"2 images are missing, so 2 of 3 items .*: 0.tar/a, 0.tar/c"):
        load_dataset("webdataset", path)
    items = load_dataset("webdataset", path, allow_missing=True)
    assert (len(items), items.expected, items.missing) == (1, 3, ("0.tar/a", "0.tar/c"))
