"""What stands in a row, in both kinds of files, and what becomes of files that hold something else."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest
import torch
from tests.python.evaluation.fake_scorers import (
    ByMatrix,
    ByPairs,
    expected,
    item,
    items,
    picture,
    pixels_sha256,
)

from discffusion import ConfigError, DatasetError, DiscffusionError, MatchItem, Scorer, __version__, evaluate
from discffusion.evaluation import reopen
from discffusion.scorer import PREPROCESS_VERSION, SCORE_VERSION

COLUMNS = [
    "key", "image_index", "text_index", "match", "group", "image_ref", "image_sha256", "text", "score", "n_tokens",
    "truncated", "dataset", "score_version", "model", "fingerprint", "revision", "deltas", "dtype", "seed", "n_noise",
    "timesteps", "preprocess_version", "device", "versions", "seconds", "run",
]  # fmt: skip


def rows_of(path: Path) -> list[dict[str, Any]]:
    """As anybody would read them."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    found: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return found


@pytest.fixture(params=["jsonl", "parquet"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "new" / f"rows.{request.param}"


def test_a_row_is_a_pair(output: Path) -> None:
    given = [
        item(0),
        item(1, texts=["one two three four five six", "b"], meta={"images": ["x.png", "y.png"]}),
    ]
    report = evaluate(ByPairs(seed=3), given, output=output)
    assert report.rows_path == output
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    found = rows_of(output)
    assert set(found[0]) - {"settings"} == set(COLUMNS)
    assert all(set(row) == set(COLUMNS) for row in found[1:])
    pairs = [(one, i, j) for one in given for i in range(2) for j in range(2)]
    assert len(found) == len(pairs)
    for row, (one, i, j) in zip(found, pairs, strict=True):
        assert (row["key"], row["image_index"], row["text_index"]) == (one.key, i, j)
        assert row["score"] == expected(one, 3)[i, j]
        assert row["match"] is (i == j)
        assert row["group"] == one.group
        assert row["text"] == one.texts[j]
        assert row["image_sha256"] == pixels_sha256(2 * given.index(one) + i)
        cut = one.texts[j].startswith("one two")
        assert (row["n_tokens"], row["truncated"]) == (len(one.texts[j].split()) + 2, cut)
        assert (row["dataset"], row["model"], row["deltas"], row["seed"]) == ("items", "rule", None, 3)
        assert (row["n_noise"], row["timesteps"], row["device"]) == (2, [100, 500], "cpu")
        assert row["versions"] == f"discffusion {__version__}"
        assert row["seconds"] > 0
        assert row["run"] == report.settings["run"]
    assert [row["image_ref"] for row in found[4:]] == ["x.png", "x.png", "y.png", "y.png"]


def test_rows_of_a_true_scorer(tmp_path: Path) -> None:
    with Scorer(device="cpu", noise_levels=[0.5], seed=4) as scorer:
        evaluate(scorer, [item(0)], output=tmp_path / "rows.jsonl", progress=False)
        tokens = scorer.count_tokens("text 0")[0][0]
        row = rows_of(tmp_path / "rows.jsonl")[0]
        described = scorer.describe()
    told = {"model": "pocket", "deltas": None, "dtype": "float32", "seed": 4, "n_noise": 1, "device": "cpu"}
    assert told.items() <= row.items()
    assert row["timesteps"] == described["timesteps"]
    assert (row["score_version"], row["preprocess_version"]) == (SCORE_VERSION, PREPROCESS_VERSION)
    assert (row["fingerprint"], row["revision"]) == (described["fingerprint"], None)
    assert (row["n_tokens"], row["truncated"]) == (tokens, False)
    assert row["versions"].startswith(f"discffusion {__version__}, torch 2.11")


def test_a_scorer_that_says_nothing(output: Path) -> None:
    evaluate(ByMatrix(), items(2), output=output)
    row = rows_of(output)[0]
    assert row["model"] == "tests.python.evaluation.fake_scorers.ByMatrix"
    assert [row[name] for name in ("seed", "timesteps", "n_noise", "n_tokens", "truncated")] == [None] * 5


def test_images_are_known_by_what_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    PIL.Image.fromarray(picture(7)).save(path)
    data = path.read_bytes()
    images = [
        path,
        str(path),
        data,
        picture(7),
        PIL.Image.fromarray(picture(7)),
        torch.tensor(picture(7)).permute(2, 0, 1),
    ]
    one = MatchItem("one", images, ["a"], np.ones((6, 1), bool))
    evaluate(ByPairs(), [one, item(9)], output=tmp_path / "rows.jsonl")
    found = rows_of(tmp_path / "rows.jsonl")[:6]
    file, pixels = hashlib.sha256(data).hexdigest(), pixels_sha256(7)
    assert [row["image_sha256"] for row in found] == [file, file, file, pixels, pixels, pixels]
    assert [row["image_ref"] for row in found[:2]] == [str(path)] * 2
    assert found[2]["image_ref"] == f"sha256:{file[:16]}"


def test_an_image_that_changes_during_a_run(tmp_path: Path) -> None:
    path = tmp_path / "one.png"

    class Lazy:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> MatchItem:
            PIL.Image.new("RGB", (index + 1, index + 1)).save(path)
            return item(index, images=[path, picture(3)])

    evaluate(ByPairs(), Lazy(), output=tmp_path / "rows.jsonl")  # type: ignore[arg-type]
    found = rows_of(tmp_path / "rows.jsonl")
    assert found[0]["image_sha256"] != found[4]["image_sha256"]


def test_both_files_read_as_tables(tmp_path: Path) -> None:
    evaluate(ByPairs(), items(3), output=tmp_path / "rows.jsonl")
    evaluate(ByPairs(), items(3), output=tmp_path / "rows.parquet")
    one = pandas.read_json(tmp_path / "rows.jsonl", lines=True, dtype={"score": float}, precise_float=True)
    other = pandas.read_parquet(tmp_path / "rows.parquet")
    assert len(one) == len(other) == 12
    for name in (
        "key",
        "image_index",
        "match",
        "group",
        "text",
        "image_sha256",
        "score",
        "n_tokens",
        "seed",
        "run",
    ):
        assert one[name].tolist() == other[name].tolist(), name
    schema = pyarrow.parquet.read_schema(tmp_path / "rows.parquet")
    assert schema.field("deltas").type == pyarrow.string()  # although no row has any
    assert schema.field("timesteps").type == pyarrow.list_(pyarrow.float64())


def test_the_report_again_from_rows(output: Path) -> None:
    given = [item(0, texts=["one two three four five six", "b"]), *items(6)[1:]]
    report = evaluate(ByPairs(), given, output=output)
    assert reopen(output, given) == report
    assert reopen(output, given, limit=3) == evaluate(ByPairs(), given, limit=3)
    with pytest.raises(ConfigError, match="lacks rows of item 'item 7'"):
        reopen(output, [*given, item(7)])
    with pytest.raises(ConfigError, match="text 1 was 'b' and is 'c'"):
        reopen(output, [item(0, texts=["one two three four five six", "c"])])
    with pytest.raises(DatasetError, match="cannot be read"):
        reopen(output.with_name("none.jsonl"), given)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


def changed(line: str, **fields: Any) -> str:
    row = {**json.loads(line), **fields}
    return json.dumps({name: value for name, value in row.items() if value != "gone"}) + "\n"


# what is done to the lines of a file, and how the error calls it
DAMAGE: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "a line cut short": (lambda ls: [*ls[:3], ls[3][:50] + "\n", *ls[4:]], "line 4 is not JSON"),
    "a line in the middle cut short and joined": (lambda ls: [*ls[:3], ls[3][:50], *ls[4:]], "line 4 is not JSON"),
    "no JSON": (lambda ls: [*ls[:2], "rows of my run\n", *ls[2:]], "line 3 is not JSON"),
    "not UTF-8": (lambda ls: [*ls[:2], '{"key": "\udcff"}\n', *ls[2:]], "line 3 is not JSON"),
    "zeros": (lambda ls: [*ls[:2], "\0" * 20 + "\n", *ls[2:]], "line 3 is not JSON"),
    "nested without end": (lambda ls: [*ls[:2], "[" * 100_000 + "\n"], "line 3 is not JSON"),
    "a list": (lambda ls: [*ls, "[1, 2]\n"], "line 9 is not a row of an evaluation: it holds list"),
    "a number at the end": (lambda ls: [*ls, "12"], "line 9 is not a row of an evaluation: it holds int"),
    "text at the end": (lambda ls: [*ls, "end of rows"], "line 9 is not JSON"),
    "no score": (lambda ls: [changed(ls[0], score="gone"), *ls[1:]], "line 1 is not a row .* it has no 'score'"),
    "no key": (lambda ls: [ls[0], changed(ls[1], key="gone")], "line 2 .* has no 'key'"),
    "a score in words": (lambda ls: [ls[0], changed(ls[1], score="high")], "line 2 .* its score is 'high'"),
    "score true": (lambda ls: [ls[0], changed(ls[1], score=True)], "line 2 .* its score is True"),
    "score null": (lambda ls: [ls[0], changed(ls[1], score=None)], "line 2 .* its score is None"),
    "score NaN": (lambda ls: [ls[0], changed(ls[1], score=float("nan"))], "line 2: its score is nan"),
    "score infinite": (lambda ls: [ls[0], changed(ls[1], score=float("inf"))], "line 2: its score is inf"),
    "key as a number": (lambda ls: [ls[0], changed(ls[1], key=3)], "line 2 .* its key is 3"),
    "match as a number": (lambda ls: [ls[0], changed(ls[1], match=1)], "line 2 .* its match is 1"),
    "index below zero": (lambda ls: [ls[0], changed(ls[1], image_index=-1)], "line 2: image_index"),
    "index too large": (lambda ls: [ls[0], changed(ls[1], text_index=1 << 40)], "line 2: image_index"),
    "index of no text": (lambda ls: [*ls, changed(ls[1], text_index=2)], "item 'item 0': .* rows of others"),
    "another text": (lambda ls: [ls[0], changed(ls[1], text="c")], "text 1 was 'c' and is 'other text 0'"),
    "another image": (lambda ls: [ls[0], changed(ls[1], image_sha256="ab")], "image_sha256 0 was 'ab' and is"),
    "another match": (lambda ls: [ls[0], changed(ls[1], match=True)], "other images and texts of it match"),
    "another run": (lambda ls: [*ls, changed(ls[1], run="abc")], "another evaluation: they do not say which"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_rows(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    evaluate(ByPairs(), items(2), output=path)
    damage, message = DAMAGE[name]
    path.write_text("".join(damage(lines_of(path))), errors="surrogateescape")
    before = path.read_bytes()
    with pytest.raises((DatasetError, ConfigError), match=message) as error:
        evaluate(ByPairs(), items(2), output=path)
    assert str(path) in str(error.value)
    assert path.read_bytes() == before
    if not before.startswith(b"rows"):
        evaluate(ByPairs(), items(2), output=path, resume=False)
        assert len(lines_of(path)) == 8


def test_what_is_deleted_is_scored_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    report = evaluate(ByPairs(), items(4), output=path)
    whole = lines_of(path)
    path.write_text("".join([*whole[1:5], "\n", *whole[7:14]]))  # without the line that says the settings
    assert evaluate(ByPairs(), items(4), output=path) == report
    found = {
        (row["key"], row["image_index"], row["text_index"]): row["score"]
        for row in map(json.loads, filter(str.strip, lines_of(path)))
    }
    assert len(found) == len(whole)
    assert len([line for line in lines_of(path) if line.strip()]) == len(whole)


def test_rows_that_come_twice_count_once(output: Path) -> None:
    report = evaluate(ByPairs(), items(3), output=output)
    found = rows_of(output)
    other = [{**row, "score": 5.0} for row in found if row["key"] == "item 1"]
    journal = output if output.suffix == ".jsonl" else output.with_name("rows.partial.jsonl")
    with journal.open("a") as file:
        file.write("".join(json.dumps(row) + "\n" for row in other))
    scorer = ByPairs()
    assert evaluate(scorer, items(3), output=output) == report
    assert scorer.calls == []
    if output.suffix == ".parquet":
        assert rows_of(output) == found
        assert not journal.exists()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    "data", [b"a,b\n1,2\n", b"[1, 2]", b'{"caption": "x"}\n', b"PAR1 and so on", b"\x89PNG\r\n"]
)
def test_other_files_are_left_alone(data: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"mine.{suffix}"
    path.write_bytes(data)
    for resume in (True, False):
        with pytest.raises(DatasetError, match=str(path)):
            evaluate(ByPairs(), items(2), output=path, resume=resume)
        assert path.read_bytes() == data
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_parquet_file_of_others_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    pandas.DataFrame({"key": ["a"], "score": [1.0]}).to_parquet(path)
    before = path.read_bytes()
    with pytest.raises(DatasetError, match="row 1 is not a row of an evaluation"):
        evaluate(ByPairs(), items(2), output=path)
    with pytest.raises(DatasetError, match="is not overwritten"):
        evaluate(ByPairs(), items(2), output=path, resume=False)
    assert path.read_bytes() == before


@pytest.mark.parametrize("output", ["/proc/rows.jsonl", "/proc/new/rows.parquet", "/dev/null/rows.jsonl"])
def test_where_nothing_can_be_written(output: str) -> None:
    scorer = ByPairs()
    with pytest.raises(ConfigError, match=f"output '{output}' cannot be used"):
        evaluate(scorer, items(2), output=output)
    assert scorer.calls == []


def test_where_a_folder_is(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").mkdir()
    with pytest.raises(ConfigError, match="cannot be used: Is a directory"):
        evaluate(ByPairs(), items(2), output=tmp_path / "rows.jsonl")


def test_a_read_only_folder(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="Permission denied"):
        evaluate(ByPairs(), items(2), output=tmp_path / "rows.jsonl")


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real, left = os.write, [2]

    def write(file: int, data: Any) -> int:
        if bytes(data[:8]) == b'{"key": ':
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data)

    path = tmp_path / "rows.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(DiscffusionError, match="No space left on device; those before are kept"):
            evaluate(ByPairs(), items(5), output=path, batch_items=1)
    assert len(lines_of(path)) == 8
    assert evaluate(ByPairs(), items(5), output=path) == evaluate(ByPairs(), items(5))


def test_nothing_is_left_where_nothing_was_scored(output: Path) -> None:
    with pytest.raises(DatasetError):
        evaluate(ByPairs(), [item(0, meta={"images": []}), item(1)], output=output)
    assert list(output.parent.iterdir()) == []
