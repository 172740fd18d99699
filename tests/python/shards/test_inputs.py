"""Which shards are meant, where their rows go, and which share of them is a worker's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.python.data.shards import PNG, shard
from tests.python.shards.made_up import ByDigest, expected, picture, rows, tars

from discffusion import ConfigError, DatasetError, score_shards
from discffusion.shards import share, summarize
from discffusion.shards.inputs import Shard, shards_in
from discffusion.shards.places import Folder


def test_files_folders_patterns_and_lists(tmp_path: Path) -> None:
    paths = tars(tmp_path, 3, 1)
    (tmp_path / "notes.txt").write_text("no shard")
    names = ["00000.tar", "00001.tar", "00002.tar"]
    for given in (
        tmp_path,
        tmp_path / "{00000..00002}.tar",
        f"{tmp_path}/*.tar",
        paths,
        [str(tmp_path / "*.tar")],
    ):
        assert [found.name for found in shards_in(given)] == names
    assert shards_in(paths[1]) == [Shard("00001.tar", str(paths[1]))]


def img2dataset(folder: Path, count: int = 2) -> list[Path]:
    """What img2dataset leaves: beside each tar a table of its metadata and a file of statistics."""
    import pyarrow
    import pyarrow.parquet

    paths = tars(folder, count, 3)
    for path in paths:
        told = {"url": ["https://example.org/a.jpg"] * 3, "caption": ["x"] * 3, "status": ["success"] * 3}
        pyarrow.parquet.write_table(pyarrow.table(told), path.with_suffix(".parquet"))
        (folder / f"{path.stem}_stats.json").write_text('{"count": 3}')
    (folder / "_tmp").mkdir()
    return paths


def test_a_folder_of_img2dataset(tmp_path: Path) -> None:
    paths = img2dataset(tmp_path / "laion")
    for given in (
        tmp_path / "laion",
        f"{tmp_path}/laion/*",
        f"{tmp_path}/laion/0000*",
        [str(tmp_path / "laion")],
        f"{tmp_path}/laion/*.tar",
    ):
        assert [found.address for found in shards_in(given)] == [str(path) for path in paths]
    found = score_shards(tmp_path / "laion", tmp_path / "rows", ByDigest())
    assert (found.shards, found.rows, found.failures, found.failed) == (2, 6, {}, {})
    assert [row["score"] for row in rows(tmp_path / "rows")] == [
        expected(picture(own), f"text {own}") for own in range(6)
    ]
    assert summarize(tmp_path / "laion", tmp_path / "rows").left == 0
    # by their names, both are meant
    with pytest.raises(ConfigError, match=r"both have their rows in 00000\.parquet"):
        shards_in([paths[0], paths[0].with_suffix(".parquet")])


def test_a_folder_of_img2dataset_elsewhere(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.store.clear()
    img2dataset(tmp_path)
    for path in tmp_path.iterdir():
        if path.is_file():
            memory.put_file(str(path), f"/laion/{path.name}")
    memory.makedirs("/laion/old.parquet", exist_ok=True)  # a folder, as other programs write tables
    memory.pipe("/laion/old.parquet/part-0.parquet", b"")
    names = ["00000.tar", "00001.tar"]
    for given in ("memory://laion", "memory://laion/", "memory://laion/*.tar", "memory://laion/0*"):
        assert [found.name for found in shards_in(given)] == names
    found = score_shards("memory://laion", "memory://rows", ByDigest())
    assert (found.shards, found.rows, found.failures, found.failed) == (2, 6, {}, {})


def test_a_table_without_a_tar_is_a_shard(tmp_path: Path) -> None:
    """In a folder of both, only what belongs to a tar is none."""
    import pyarrow
    import pyarrow.parquet

    img2dataset(tmp_path, 1)
    table = pyarrow.table({"image": [picture(7)], "text": ["seven"]})
    pyarrow.parquet.write_table(table, tmp_path / "more.parquet")
    assert [found.name for found in shards_in(tmp_path)] == ["00000.tar", "more.parquet"]


def test_images_above_a_table_elsewhere() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pipe("/bucket/pictures/0.png", picture(0))
    memory.pipe("/bucket/in/t.jsonl", b'{"image": "../pictures/0.png", "text": "a"}')
    found = score_shards("memory://bucket/in", "memory://bucket/out", ByDigest())
    assert (found.rows, found.failures) == (1, {})


def test_the_same_name_in_two_folders(tmp_path: Path) -> None:
    for part in "ab":
        shard(tmp_path / part / "0.tar", {"0.png": PNG, "0.txt": part.encode()})
    given = [tmp_path / "a", tmp_path / "b"]
    assert [found.output for found in shards_in(given)] == ["a/0.parquet", "b/0.parquet"]
    score_shards(given, tmp_path / "out", ByDigest())
    assert [(row["shard"], row["text"]) for row in rows(tmp_path / "out")] == [
        ("a/0.tar", "a"),
        ("b/0.tar", "b"),
    ]


def test_shards_that_cannot_be_told_apart(tmp_path: Path) -> None:
    tars(tmp_path, 1, 1)
    (tmp_path / "00000.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"both have their rows in 00000\.parquet"):
        shards_in(tmp_path)
    with pytest.raises(ConfigError, match="named twice"):
        shards_in([tmp_path / "00000.tar", tmp_path / "00000.tar"])


@pytest.mark.parametrize("given", ["nowhere.tar", "{0..3}.tar", "*.tar", "", ".", "https://", 5, [], [3]])
def test_no_shards(given: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ConfigError, DatasetError)):
        shards_in(given)


def test_names_lead_nowhere_else(tmp_path: Path) -> None:
    """Names come from files, which anybody may have made; members of archives name no file at all."""
    folder = Folder(tmp_path / "out")
    for name in ("../a.parquet", "/a.parquet", "a/../../b.parquet", "", "a\0b", ".."):
        with pytest.raises(DatasetError, match="points outside its folder"):
            folder.write_text(name, "x")
    evil = shard(
        tmp_path / "in" / "a.tar",
        {"../../e.png": PNG, "../../e.txt": b"up", "/r.png": PNG, "/r.txt": b"root"},
    )
    score_shards(evil, tmp_path / "out", ByDigest())
    assert [row["member"] for row in rows(tmp_path / "out")] == ["../../e", "/r"]
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["in/a.tar", "out/a.parquet"]


def test_addresses(tmp_path: Path) -> None:
    """The file system in memory stands for those elsewhere; images beside a table are there too."""
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for path in tars(tmp_path, 2, 3):
        memory.put_file(str(path), f"/bucket/in/{path.name}")
    memory.pipe("/bucket/in/pictures/0.png", picture(0))
    memory.pipe(
        "/bucket/in/b.jsonl", b'{"image": "pictures/0.png", "text": "a"}\n{"image": "gone.png", "text": "b"}'
    )
    found = score_shards("memory://bucket/in", "memory://bucket/out", ByDigest())
    assert (found.shards, found.rows, found.left, found.failures) == (3, 8, 0, {"missing_image": 1})
    assert sorted(memory.find("/bucket/out")) == [
        f"/bucket/out/{name}.parquet" for name in ("00000", "00001", "b")
    ]
    assert score_shards("memory://bucket/in/*.tar", "memory://bucket/out", ByDigest()).scored == 0
    memory.get("/bucket/out", str(tmp_path / "out"), recursive=True)
    got = rows(tmp_path / "out")
    assert [row["score"] for row in got[:6]] == [expected(picture(own), f"text {own}") for own in range(6)]
    assert got[6]["score"] == expected(picture(0), "a")
    memory.pipe("/bucket/in/00002.tar", b"hello" * 300)
    again = score_shards("memory://bucket/in", "memory://bucket/out", ByDigest())
    assert list(again.failed) == ["00002.tar"] and again.left == 1
    memory.rm("/bucket/in/00002.tar")
    with pytest.raises(DatasetError, match="no shards at"):
        shards_in("memory://elsewhere/*.tar")
    with pytest.raises(ConfigError, match="cannot be used"):
        shards_in("nosuchthing://bucket/a.tar")


def test_what_the_dead_have_left(tmp_path: Path) -> None:
    """A temporary file of a process that is gone is removed when its shard is scored; others' are not."""
    import socket

    tars(tmp_path / "in", 1, 1)
    out = tmp_path / "out"
    out.mkdir()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = socket.gethostname()
    mine = out / f".00000.parquet.{host}.{gone.pid}.0123abcd.tmp"
    others = [
        out / f".00000.parquet.{host}.{os.getpid()}.0123abcd.tmp",
        out / f".00000.parquet.elsewhere.{gone.pid}.0123abcd.tmp",
        out / f".00001.parquet.{host}.{gone.pid}.0123abcd.tmp",
    ]
    for path in (mine, *others):
        path.write_bytes(b"half a file")
    score_shards(tmp_path / "in", out, ByDigest())
    assert not mine.exists() and all(path.exists() for path in others)


@pytest.mark.parametrize(
    ("environment", "expected_share"),
    [
        ({}, (0, 1)),
        ({"RANK": "2", "WORLD_SIZE": "4"}, (2, 4)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}, (3, 8)),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "5"}, (2, 4)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "1",
                "SLURM_ARRAY_TASK_COUNT": "2",
                "SLURM_PROCID": "2",
                "SLURM_NTASKS": "3",
            },
            (5, 6),
        ),
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "3", "SLURM_NTASKS": "8"}, (1, 2)),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "share 2 of 2"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x'"),
        ({"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_COUNT": "4"}, "steps of 1"),
    ],
)
def test_shares_of_launchers(
    environment: dict[str, str], expected_share: tuple[int, int] | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_") or name in ("RANK", "WORLD_SIZE")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(expected_share, str):
        with pytest.raises(ConfigError, match=expected_share):
            share()
        return
    assert share()[:2] == expected_share
    assert share(0, 1)[:2] == (0, 1)
