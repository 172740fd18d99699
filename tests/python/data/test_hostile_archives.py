"""Archives with names that lead elsewhere, links, and promises: nothing is written, and errors are typed."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.python.data.shards import JPEG, shard

from discffusion.data import load_dataset
from discffusion.data.archives.tar import members
from discffusion.data.sources import ImageStore
from discffusion.errors import DatasetError
from discffusion.shards import score_shards

NAMES = [
    "../../outside",
    "{root}/outside",
    "a/../../outside",
    "..",
    "./../outside",
    "a\\..\\..\\outside",
    "-rf",
    "~/x",
]


class Ones:
    """A scorer that decodes nothing."""

    def score_pairs(self, images: Any, texts: Any, pairs: Any) -> np.ndarray:
        return np.ones(len(pairs))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder deep in another, in which nothing else may appear."""
    folder = tmp_path / "some" / "where"
    (folder / "in").mkdir(parents=True)
    yield folder
    assert {path.name for path in tmp_path.iterdir()} == {"some"}
    assert {path.name for path in folder.parent.iterdir()} == {"where"}
    assert {path.name for path in folder.iterdir()} <= {"in", "out"}


def hostile(root: Path) -> Path:
    """A tar of samples whose names lead out of it, and links to a file that would be read or overwritten."""
    path = root / "in" / "0.tar"
    names = [name.format(root=root.parent) for name in NAMES]
    shard(
        path, {f"{name}/s{kind}": data for name in names for kind, data in ((".jpg", JPEG), (".txt", b"x"))}
    )
    with tarfile.open(path, "a") as archive:
        for number, (kind, target) in enumerate(
            (kind, target)
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE)
            for target in ("/etc/passwd", "../../outside", "../s.jpg")
        ):
            for ending in ("jpg", "txt"):
                link = tarfile.TarInfo(f"link{number}.{ending}")
                link.type, link.linkname = kind, target
                archive.addfile(link)
        for kind in (tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo("device.jpg")
            info.type = kind
            archive.addfile(info)
    return path


def test_members_that_lead_elsewhere(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hostile(root)
    monkeypatch.chdir(root)
    found = [member.name for member in members(path)[0]]
    assert len(found) == 2 * len(NAMES) and not any(name.startswith(("link", "device")) for name in found)
    items = load_dataset("webdataset", path)
    assert [list(item.images) for item in items] == [[JPEG]] * len(NAMES)
    summary = score_shards(path, root / "out", Ones(), progress=False)
    assert (summary.done, summary.rows) == (1, len(NAMES))
    assert [file.name for file in (root / "out").iterdir()] == ["0.parquet"]
    assert pq.read_table(root / "out" / "0.parquet")["score"].to_pylist() == [1.0] * len(NAMES)


def test_members_of_zip_files_that_lead_elsewhere(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    with zipfile.ZipFile(root / "in" / "images.zip", "w") as archive:
        for name in NAMES:
            archive.writestr(f"{name.format(root=root.parent)}/1.jpg", JPEG)
        link = zipfile.ZipInfo("2.jpg")
        link.external_attr = 0o120777 << 16  # a symbolic link
        archive.writestr(link, "/etc/hostname")
    store = ImageStore(root / "in", archives=["images.zip"])
    place = store.find("1.jpg")
    assert place is not None and store.open(place) == JPEG
    linked = store.find("2.jpg")
    assert linked is not None and store.open(linked) == b"/etc/hostname"  # its bytes; it is not followed
    assert store.find("../../outside/1.jpg") == store.find("1.jpg")  # by the last part alone
    assert store.find("../../where/in/images.zip") is None


@pytest.mark.parametrize("size", [1 << 40, 1 << 62, 1 << 66], ids=str)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_headers_that_promise_more_than_there_is(tmp_path: Path, kind: bytes, size: int) -> None:
    path = shard(tmp_path / "0.tar", {"a.jpg": JPEG, "a.txt": b"x"})
    info = tarfile.TarInfo("b.txt")
    info.type, info.size = kind, size
    data = path.read_bytes()
    end = data.rindex(b"x") // 512 * 512 + 512
    path.write_bytes(data[:end] + info.tobuf(tarfile.GNU_FORMAT) + b"abc")
    for allow_missing in (False, True):
        with pytest.raises(DatasetError, match="0.tar is not a tar file that can be read after"):
            load_dataset("webdataset", path, allow_missing=allow_missing)


GOOD = io.BytesIO()
with tarfile.open(fileobj=GOOD, mode="w") as made:
    for name, data in {
        "a.jpg": b"image",
        "a.txt": b"a text",
        "b.png": b"another",
        "b.json": b'{"t": "x"}',
    }.items():
        one = tarfile.TarInfo(name)
        one.size = len(data)
        made.addfile(one, io.BytesIO(data))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=12)), max_size=5),
    length=st.integers(0, 10_240),
    layout=st.sampled_from([{}, {"json_text_key": "t"}, {"caption_lines": True}]),
)
def test_damaged_tars(changes: Any, length: int, layout: dict[str, Any], tmp_path: Path) -> None:
    content = bytearray(GOOD.getvalue())
    for at, new in changes:
        content[at : at + len(new)] = new
    path = tmp_path / "0.tar"
    path.write_bytes(content[: length if changes else None])
    with suppress(DatasetError):
        for item in load_dataset("webdataset", path, allow_missing=True, **layout):
            assert item.texts and item.images
    summary = score_shards(path, tmp_path / "out", Ones(), progress=False, allow_missing=True, **layout)
    assert summary.done + len(summary.failed) == 1
    for file in (tmp_path / "out").iterdir():
        file.unlink()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.binary(max_size=40) | st.text(max_size=40).map(str.encode), max_size=4))
def test_lines_at_random(lines: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "0.jsonl").write_bytes(b"\n".join(lines))
    summary = score_shards(tmp_path / "0.jsonl", tmp_path / "out", Ones(), progress=False)
    assert summary.done + len(summary.failed) == 1
    for file in (tmp_path / "out").iterdir():
        file.unlink()


def header(kind: bytes, **bytes_at: int) -> bytes:
    """A tar header of an empty member, with single bytes changed before its checksum is made."""
    info = tarfile.TarInfo("x")
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    for place, value in bytes_at.items():
        block[int(place.removeprefix("at_"))] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            header(tarfile.GNUTYPE_SPARSE, at_482=1), id="a sparse file whose map goes on after the end"
        ),
        pytest.param(
            header(tarfile.GNUTYPE_LONGNAME) * 3000, id="a long name for a long name for a long name"
        ),
    ],
)
def test_mistakes_of_the_reader_are_the_archives(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"0\.tar is not a tar file that can be read"):
        members(path)
