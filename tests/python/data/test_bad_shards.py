"""Shards that are cut off, damaged, compressed or hold something else, and roots that name none."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.python.data.shards import JPEG, PNG, classes, shard

from discffusion.data import load_dataset
from discffusion.data.archives.tar import members
from discffusion.errors import DatasetError


def test_a_shard_cut_off_between_two_members(tmp_path: Path) -> None:
    """To a reader of tars it looks like a shorter shard."""
    path = shard(tmp_path / "0.tar", {"a.jpg": JPEG, "a.txt": b"x", "b.jpg": JPEG, "b.txt": b"y"})
    found, _ = members(path)
    path.write_bytes(path.read_bytes()[: found[2].offset - 512])
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["a.jpg", "a.txt"]
    with pytest.raises(
        DatasetError, match=r"0.tar has no mark at its end, so files may be missing .*allow_missing=True"
    ):
        load_dataset("webdataset", path)
    items = load_dataset("webdataset", path, allow_missing=True)
    assert [item.key for item in items] == ["0.tar/a/0"]
    assert items.about["notes"] == ["0.tar has no mark at its end, so files may be missing from it"]


def test_every_cut_of_a_shard_is_seen(tmp_path: Path) -> None:
    whole = shard(tmp_path / "0.tar", {"a.png": b"\x89PNG" + bytes(600), "a.txt": b"x"}).read_bytes()
    end = whole.rindex(b"x") + 512
    for length in range(0, end, 100):
        (tmp_path / "0.tar").write_bytes(whole[:length])
        with pytest.raises(DatasetError, match="0.tar"):
            load_dataset("webdataset", tmp_path / "0.tar")


def files(**members: bytes) -> Callable[[Path], Any]:
    return lambda path: shard(path, {name.replace("_", "."): data for name, data in members.items()})


def packed(mode: str) -> Callable[[Path], Any]:
    return lambda path: shard(path, {"a.jpg": JPEG, "a.txt": b"x"}, mode)


def damaged(name: str, offset: int, data: bytes) -> Callable[[Path], Any]:
    """Bytes of the header of a member replaced."""

    def spoil(path: Path) -> None:
        shard(path, {"a.jpg": JPEG, "a.txt": b"x", "b.jpg": JPEG, "b.txt": b"y"})
        content = bytearray(path.read_bytes())
        start = next(member.offset for member in members(path)[0] if member.name == name) - 512 + offset
        content[start : start + len(data)] = data
        path.write_bytes(content)

    return spoil


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no tar": (lambda path: path.write_bytes(b"this is not a tar file" * 100), r"0.tar is not a tar file"),
    "empty file": (
        lambda path: path.write_bytes(b""),
        r"0.tar is not a tar file that can be read: empty file",
    ),
    "gzip": (packed("w:gz"), r"0.tar is not a tar .*it is compressed: unpack it"),
    "bzip2": (packed("w:bz2"), r"0.tar is not a tar .*it is compressed"),
    "xz": (packed("w:xz"), r"0.tar is not a tar .*it is compressed"),
    "damaged header": (damaged("b.jpg", 148, b"000000"), r"0.tar is damaged at byte \d+, after 2 files"),
    "damaged size": (damaged("b.jpg", 124, b"99999999999"), r"0.tar is damaged at byte \d+, after 2 files"),
    "no caption": (
        files(a_jpg=JPEG, a_cls=b"1"),
        r"0.tar, sample 'a' has no .txt; it has cls, jpg: .*text_key=",
    ),
    "blank caption": (files(a_jpg=JPEG, a_txt=b" \n"), r"0.tar, member 'a.txt' holds no text"),
    "caption that is no UTF-8": (
        files(a_jpg=JPEG, a_txt=b"\xff\xfe"),
        r"0.tar, member 'a.txt' is not UTF-8 text",
    ),
    "no samples": (files(README_md=b"x"), r"the 1 shards hold no samples"),
    "no members": (files(), r"the 1 shards hold no samples"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, tmp_path: Path) -> None:
    spoil, pattern = BAD[name]
    spoil(tmp_path / "0.tar")
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("webdataset", tmp_path / "0.tar")


def test_a_member_twice(tmp_path: Path) -> None:
    path = shard(tmp_path / "0.tar", {"a.jpg": JPEG, "a.txt": b"x"})
    shard(path, {"a.jpg": JPEG}, "a")
    with pytest.raises(DatasetError, match=r"0.tar holds 'a.jpg' twice"):
        load_dataset("webdataset", path)


def test_json_that_is_none(tmp_path: Path) -> None:
    for data, pattern in ((b"{", "member 'a.json' is not JSON"), (b"[1]", "member 'a.json' is a list")):
        path = shard(tmp_path / "0.tar", {"a.jpg": JPEG, "a.json": data})
        with pytest.raises(DatasetError, match=pattern):
            load_dataset("webdataset", path, json_text_key="caption")


BAD_CLASSES: dict[str, tuple[str, bytes, str]] = {
    "class beyond the names": ("cls", b"3", r"test/0.tar, sample 's0': the class is '3'; expected 0 to 2"),
    "class of text": ("cls", b"ship", r"sample 's0': the class is 'ship'"),
    "negative class": ("cls", b"-1", r"sample 's0': the class is '-1'"),
    "number without end": ("cls", b"9" * 5000, r"sample 's0': the class is '999"),
    "several classes": ("npy", b"\x93NUMPY", r"sample 's0' has no .cls; it has npy, png"),
}


@pytest.mark.parametrize("name", BAD_CLASSES)
def test_bad_classes(name: str, tmp_path: Path) -> None:
    kind, data, pattern = BAD_CLASSES[name]
    shard(classes(tmp_path) / "test" / "0.tar", {"s0.png": PNG, f"s0.{kind}": data})
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("webdataset", tmp_path)


ROOTS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "needs root="),
    "a number": (3, "root is 3; expected a folder, a tar file, a pattern"),
    "an empty list": ([], "empty list"),
    "a URL": ("https://example.com/{0..9}.tar", "nothing is fetched: download"),
    "a pipe": ("pipe:curl -s https://example.com/0.tar", "nothing is fetched"),
    "a pattern backwards": ("{9..0}.tar", "counts from 9 to 0"),
    "a pattern without end": ("{0..99999999999}.tar", "counts from 0 to 99999999999"),
    "a pattern of one": ("{9}.tar", "neither {0..9} nor {a,b}"),
    "shards that are not there": ("no/{0..11}.tar", "12 of 12 shards do not exist: no/0.tar, .* and 2 more"),
}


@pytest.mark.parametrize("name", ROOTS)
def test_roots_that_are_none(name: str) -> None:
    root, pattern = ROOTS[name]
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("webdataset", root)


def test_options_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no tar files"):
        load_dataset("webdataset", tmp_path)
    (tmp_path / "nshards.txt").write_text("many")
    with pytest.raises(DatasetError, match="nshards.txt holds 'many'; expected the number of shards"):
        load_dataset("webdataset", tmp_path)
    (tmp_path / "nshards.txt").unlink()
    path = shard(tmp_path / "0.tar", {"a.jpg": JPEG, "a.txt": b"x"})
    for options, pattern in (
        ({"task": "captioning"}, "no task 'captioning'; there are: retrieval, pretraining, classification"),
        ({"task": "classification"}, "sample 'a' has no .cls"),
        ({"subset": "a"}, "no subset 'a'; there are: none"),
        ({"split": "test"}, "split='test' is for a folder of splits"),
    ):
        with pytest.raises(DatasetError, match=pattern):
            load_dataset("webdataset", path, **options)
    with pytest.raises(DatasetError, match="no split 'test'; there are: none"):
        load_dataset("webdataset", tmp_path, split="test")
    with pytest.raises(DatasetError, match="is not a file; a list or pattern names tar files"):
        load_dataset("webdataset", [path, tmp_path])


def test_a_shard_that_changed_after_opening(tmp_path: Path) -> None:
    path = shard(tmp_path / "0.tar", {"a.txt": b"x", "a.jpg": JPEG})
    items = load_dataset("webdataset", path)
    path.write_bytes(path.read_bytes()[:1600])
    with pytest.raises(DatasetError, match=r"0.tar ends within 'a.jpg': the file has changed"):
        items[0]
