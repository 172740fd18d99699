"""Rows of shards: every image and text once, failures as rows, a file that is there as a whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from tests.python.data.shards import JPEG, PNG, shard
from tests.python.shards.made_up import ByDigest, expected, picture, rows, tars

from discffusion import ConfigError, DatasetError, DiscffusionError, Scorer, score_shards
from discffusion.shards import summarize
from discffusion.shards.rows import COLUMNS, KINDS


def test_every_pair_once_in_order(tmp_path: Path) -> None:
    tars(tmp_path / "in", 3, 20)
    found = score_shards(tmp_path / "in", tmp_path / "out", ByDigest())
    got = rows(tmp_path / "out")
    assert [(row["shard"], row["member"], row["text_index"], row["text"]) for row in got] == [
        (f"{own // 20:05}.tar", f"{own:06}", 0, f"text {own}") for own in range(60)
    ]
    assert [row["score"] for row in got] == [expected(picture(own), f"text {own}") for own in range(60)]
    assert all(row["error"] is None and len(row["image_sha256"]) == 64 for row in got)
    assert (found.shards, found.scored, found.done, found.rows, found.failures, found.left) == (
        3,
        3,
        3,
        60,
        {},
        0,
    )
    assert found.rows_per_second > 0
    assert "3 of 3 shards are done, 3 of them now" in str(found) and "nothing is left" in str(found)


def test_finished_shards_are_skipped(tmp_path: Path) -> None:
    tars(tmp_path / "in", 4, 3)
    score_shards(tmp_path / "in" / "{00000..00001}.tar", tmp_path / "out", ByDigest())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    scorer = ByDigest()
    found = score_shards(tmp_path / "in", tmp_path / "out", scorer)
    assert (found.scored, found.done, found.rows, found.scored_rows) == (2, 4, 12, 6)
    assert sum(pairs for _, pairs in scorer.calls) == 6
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert score_shards(tmp_path / "in", tmp_path / "out", scorer).scored == 0
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".parquet"}


def test_shares_are_disjoint_and_complete(tmp_path: Path) -> None:
    tars(tmp_path / "in", 5, 2)
    lefts = []
    for index in range(3):
        found = score_shards(tmp_path / "in", tmp_path / "out", ByDigest(), shard_index=index, num_shards=3)
        lefts.append((found.shards, found.left))
    assert lefts == [(2, 3), (2, 1), (1, 0)]
    assert [row["text"] for row in rows(tmp_path / "out")] == [f"text {own}" for own in range(10)]


def test_an_image_is_encoded_once(tmp_path: Path) -> None:
    """All rows of an image go to one call with the image once, wherever in the shard they stand."""
    for own in range(3):
        (tmp_path / f"{own}.png").write_bytes(picture(own))
    lines = [{"image": f"{own % 3}.png", "text": f"text {own}", "id": own} for own in range(12)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    scorer = ByDigest()
    score_shards(path, tmp_path / "out", scorer, key="id")
    assert scorer.calls == [(3, 12)]
    got = rows(tmp_path / "out")
    assert [(row["member"], row["key"]) for row in got] == [(str(own), str(own)) for own in range(12)]
    assert [row["score"] for row in got] == [expected(picture(own % 3), f"text {own}") for own in range(12)]


def test_large_groups_and_blocks(tmp_path: Path) -> None:
    """More images and texts than one call takes."""
    lines = [{"image": f"{own // 100}.png", "text": f"text {own}"} for own in range(200)]
    lines += [{"image": f"{own}.png", "text": ["one", "two"]} for own in range(2, 40)]
    for own in range(40):
        (tmp_path / f"{own}.png").write_bytes(picture(own))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    scorer = ByDigest()
    score_shards(tmp_path / "a.jsonl", tmp_path / "out", scorer)
    assert max(images for images, _ in scorer.calls) <= 16 and max(pairs for _, pairs in scorer.calls) <= 64
    got = rows(tmp_path / "out")
    assert len(got) == 276 and all(row["score"] is not None for row in got)
    assert [row["text_index"] for row in got[-4:]] == [0, 1, 0, 1]


def test_parquet_with_bytes(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "image": [{"bytes": picture(own % 2), "path": f"{own}.png"} for own in range(5)],
            "text": [["a", "b"], ["c"], [], ["d", None], ["a"]],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    scorer = ByDigest()
    found = score_shards(tmp_path, tmp_path / "out", scorer)
    got = rows(tmp_path / "out")
    assert [(row["member"], row["text_index"], row["text"], row["error"]) for row in got] == [
        ("0", 0, "a", None), ("0", 1, "b", None), ("1", 0, "c", None), ("2", 0, None, "missing_text"),
        ("3", 0, "d", None), ("3", 1, None, "missing_text"), ("4", 0, "a", None),
    ]  # fmt: skip
    assert scorer.calls == [(2, 5)]  # the third row of the same picture and text counts as a pair too
    assert found.failures == {"missing_text": 2}


def test_captions_of_a_tar(tmp_path: Path) -> None:
    path = shard(
        tmp_path / "a.tar",
        {"0.jpg": JPEG, "0.txt": b"one\n\n two \n", "0.json": b'{"caption": ["x", "y"], "other": 3}'},
    )
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["one\n\n two"]),
        ({"caption_lines": True}, ["one", "two"]),
        ({"json_text_key": "caption"}, ["x", "y"]),
    ]
    for number, (options, texts) in enumerate(cases):
        score_shards(path, tmp_path / str(number), ByDigest(), **options)
        assert [row["text"] for row in rows(tmp_path / str(number))] == texts
    score_shards(path, tmp_path / "bad", ByDigest(), json_text_key="other")
    assert rows(tmp_path / "bad")[0]["error"] == "bad_text"


def test_failures_are_rows(tmp_path: Path) -> None:
    with_twice = {
        "good.png": PNG, "good.txt": b"good",
        "nothing.txt": b"no image", "empty.png": b"", "empty.txt": b"empty image",
        "broken.png": PNG[:200], "broken.txt": b"half an image", "text.png": b"not an image", "text.txt": b"text",
        "mute.png": PNG, "blank.png": PNG, "blank.txt": b" \n", "latin.png": PNG, "latin.txt": b"caf\xe9",
        "other.xyz": b"no sample", "last.png": PNG, "last.txt": b"last",
    }  # fmt: skip
    path = shard(tmp_path / "a.tar", with_twice)
    shard(path, {"good2.png": PNG, "good2.txt": b"second"}, mode="a")
    shard(path, {"last.txt": b"again"}, mode="a")
    lines = [
        b'{"image": "gone.png", "text": "no file"}', b"{", b"[1]", b'{"text": "no image"}',
        b'{"image": "https://example.org/a.png", "text": "a URL"}', b'{"image": "here.png", "text": 5}',
        b'{"image": "here.png", "text": "\\ud800"}', b"\xff\xfe", b'{"image": "here.png", "text": "here"}',
        b'{"image": "", "text": "empty"}', b'{"image": ".", "text": "a folder"}',
    ]  # fmt: skip
    (tmp_path / "here.png").write_bytes(PNG)
    (tmp_path / "b.jsonl").write_bytes(b"\n".join(lines))
    with Scorer(device="cpu", noise_levels=[0.5], layers=["down.0.0"]) as scorer:
        found = score_shards(tmp_path, tmp_path / "out", scorer)
        values = scorer.score([PNG] * 3, ["good", "second", "here"])
    got = rows(tmp_path / "out")
    assert [(row["member"], row["error"]) for row in got] == [
        ("good", None), ("nothing", "missing_image"), ("empty", "missing_image"), ("broken", "corrupt_image"),
        ("text", "corrupt_image"), ("mute", "missing_text"), ("blank", "missing_text"), ("latin", "bad_text"),
        ("last", "duplicate_member"), ("good2", None),
        ("0", "missing_image"), ("1", "bad_row"), ("2", "bad_row"), ("3", "missing_image"), ("4", "missing_image"),
        ("5", "bad_text"), ("6", "bad_text"), ("7", "bad_row"), ("8", None), ("9", "missing_image"),
        ("10", "missing_image"),
    ]  # fmt: skip
    scored = [row["score"] for row in got if row["error"] is None]
    np.testing.assert_allclose(scored, values, rtol=1e-4)
    assert all((row["score"] is None) == bool(row["error"]) == bool(row["message"]) for row in got)
    assert {row["error"] for row in got if row["error"]} <= set(KINDS)
    assert sum(found.failures.values()) == 18 and found.failures["corrupt_image"] == 2


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Any bytes may be in the names of files and members, and half a character in JSON."""
    path = shard(tmp_path / "in" / "caf\udce9.tar", {"na\udcefve.png": PNG, "na\udcefve.txt": b"text"})
    (tmp_path / "in" / "b.jsonl").write_text('{"image": "\\ud800.png", "text": "a", "id": "\\udfff"}\n')
    found = score_shards(tmp_path / "in", tmp_path / "out", ByDigest(), key="id")
    assert found.failures == {"missing_image": 1} and path.exists()
    assert [(row["shard"], row["member"], row["key"]) for row in rows(tmp_path / "out")] == [
        ("b.jsonl", "0", "\\udfff"), ("caf\\udce9.tar", "na\\udcefve", None),
    ]  # fmt: skip


def test_texts_that_are_too_long(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", {"0.png": PNG, "0.txt": b"word " * 100, "1.png": PNG, "1.txt": b"short"})
    with Scorer(device="cpu", noise_levels=[0.5], layers=["down.0.0"], truncate="error") as scorer:
        score_shards(path, tmp_path / "strict", scorer)
        score_shards(path, tmp_path / "cut", scorer.with_config(truncate="silent"))
    assert [row["error"] for row in rows(tmp_path / "strict")] == ["text_too_long", None]
    cut = rows(tmp_path / "cut")
    assert [(row["error"], row["truncated"]) for row in cut] == [(None, True), (None, False)]


def test_scores_that_are_no_numbers(tmp_path: Path) -> None:
    class Broken(ByDigest):
        def score_pairs(self, images: Any, texts: Any, pairs: Any) -> np.ndarray:
            values = super().score_pairs(images, texts, pairs)
            values[1] = np.nan
            return values

    tars(tmp_path / "in", 1, 3)
    assert score_shards(tmp_path / "in", tmp_path / "out", Broken()).failures == {"not_finite": 1}


@pytest.mark.parametrize("spoil", ["cut", "header", "no tar", "compressed", "no mark"])
def test_a_corrupt_shard_stops_no_other(spoil: str, tmp_path: Path) -> None:
    paths = tars(tmp_path / "in", 3, 4)
    data = paths[1].read_bytes()
    spoilt = {
        "cut": data[:1700],
        "header": data[:1024] + b"\xff" * 512 + data[1536:],
        "no tar": b"hello" * 1000,
        "compressed": b"\x1f\x8b" + data,
        "no mark": data.rstrip(b"\0")[: len(data) // 512 * 512],
    }[spoil]
    if spoil == "no mark":
        spoilt = spoilt + bytes(-len(spoilt) % 512)
    paths[1].write_bytes(spoilt)
    found = score_shards(tmp_path / "in", tmp_path / "out", ByDigest())
    assert (found.done, found.rows, found.left, list(found.failed)) == (2, 8, 1, ["00001.tar"])
    assert "00001.tar" in found.failed["00001.tar"]
    assert summarize(tmp_path / "in", tmp_path / "out").failed == found.failed
    assert "1 shards could not be read" in str(found) and "1 shards are left" in str(found)
    paths[1].write_bytes(data)
    again = score_shards(tmp_path / "in", tmp_path / "out", ByDigest())
    assert (again.scored, again.left, again.failed) == (1, 0, {})
    assert len(rows(tmp_path / "out")) == 12
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".parquet"}


def test_corrupt_tables(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    pyarrow.parquet.write_table(pyarrow.table({"picture": ["x"]}), tmp_path / "b.parquet")
    found = score_shards(tmp_path, tmp_path / "out", ByDigest())
    assert sorted(found.failed) == ["a.parquet", "b.parquet"]
    assert "no column 'image', 'text'" in found.failed["b.parquet"]


def test_other_settings_are_refused(tmp_path: Path) -> None:
    tars(tmp_path / "in", 1, 1)
    score_shards(tmp_path / "in", tmp_path / "out", ByDigest())

    class Newer(ByDigest):
        def describe(self) -> dict[str, Any]:
            return {"model": "by digest", "score_version": 2}

    with pytest.raises(ConfigError, match="scorer score_version was 1 and is 2"):
        score_shards(tmp_path / "in", tmp_path / "out", Newer())
    with pytest.raises(ConfigError, match="layout caption_lines was false and is true"):
        score_shards(tmp_path / "in", tmp_path / "out", ByDigest(), caption_lines=True)
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "out" / "00000.parquet")
    with pytest.raises(ConfigError, match="holds no rows of shards"):
        score_shards(tmp_path / "in", tmp_path / "out", ByDigest())


def test_a_damaged_result_is_made_again(tmp_path: Path) -> None:
    tars(tmp_path / "in", 1, 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "00000.parquet").write_bytes(b"PAR1")
    assert score_shards(tmp_path / "in", tmp_path / "out", ByDigest()).scored == 1
    assert len(rows(tmp_path / "out")) == 2


def test_an_error_of_the_scorer_leaves_no_file(tmp_path: Path) -> None:
    class Failing(ByDigest):
        def score_pairs(self, *_: Any) -> np.ndarray:
            raise DiscffusionError("out of order")

    tars(tmp_path / "in", 2, 2)
    with pytest.raises(DiscffusionError, match="out of order"):
        score_shards(tmp_path / "in", tmp_path / "out", Failing())
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_columns(tmp_path: Path) -> None:
    tars(tmp_path / "in", 1, 1)
    score_shards(tmp_path / "in", tmp_path / "out", ByDigest())
    file = pyarrow.parquet.read_schema(tmp_path / "out" / "00000.parquet")
    assert file.names == list(COLUMNS)
    assert json.loads(file.metadata[b"discffusion.counts"])["rows"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"launcher": "slurm"}, "launcher is 'slurm'; expected one of process, ray"),
        ({"shard_index": 0}, "give both or neither"),
        ({"shard_index": 3, "num_shards": 3}, "share 3 of 3"),
        ({"actors": 2}, 'actors are of launcher="ray"'),
        ({"launcher": "ray", "shard_index": 0, "num_shards": 1}, "not used"),
        ({"colour": "red"}, "'colour' is not an option of score_shards"),
        ({"text_key": ""}, "text_key is ''; expected str"),
        ({"caption_lines": 1}, "caption_lines is 1; expected bool"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    tars(tmp_path / "in", 1, 1)
    with pytest.raises(ConfigError) as caught:
        score_shards(tmp_path / "in", tmp_path / "out", ByDigest(), **arguments)
    assert message in str(caught.value)


def test_wrong_scorers_and_outputs(tmp_path: Path) -> None:
    tars(tmp_path / "in", 1, 1)
    with pytest.raises(ConfigError, match="expected an object with score_pairs"):
        score_shards(tmp_path / "in", tmp_path / "out", 5)
    with pytest.raises(ConfigError, match="is not a folder"):
        score_shards(tmp_path / "in", tmp_path / "in" / "00000.tar", ByDigest())
    with pytest.raises(DatasetError, match="no shards"):
        score_shards(tmp_path / "nowhere", tmp_path / "out", ByDigest())
