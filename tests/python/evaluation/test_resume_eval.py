"""A run that is killed, interrupted or finds half a row ends with the rows and the report of one never disturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.evaluation.eval_child import run
from tests.python.evaluation.fake_scorers import ByMatrix, ByPairs, item, items, picture
from tests.python.evaluation.test_rows import rows_of
from tests.python.training_child import at_call, die

import discffusion
from discffusion import ConfigError, DatasetError, MatchItem, Report, Scorer, evaluate
from discffusion import _parquet as parquet
from discffusion.evaluation.store import files, journal
from discffusion.evaluation.store.journal import Journal

ROOT = Path(__file__).parents[3]


class Unsteady(ByPairs):
    """The last digits of a score depend on what is computed beside it, as on a true device."""

    def score_pairs(self, images: Any, texts: Any, pairs: Any) -> Any:
        return super().score_pairs(images, texts, pairs) + 1e-9 * len(pairs)


def given(number: int = 9) -> list[MatchItem]:
    """Items of which some share an image and a text with others."""
    shared = [
        item(n, images=[picture(200), picture(n)], texts=["shared", f"text {n}"]) for n in range(20, 23)
    ]
    return [*items(number), *shared, *items(number + 5)[number:]]


def without_time(path: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows_of(path)]


def same(report: Report, other: Report) -> bool:
    """To the last bit, in the same order."""
    pairs = zip(report.records, other.records, strict=True)
    return report == other and all(np.array_equal(a.scores, b.scores) for a, b in pairs)


@pytest.mark.parametrize("batch_items", [None, 1, 4])
def test_cut_off_anywhere(batch_items: int | None, tmp_path: Path) -> None:
    """After any byte: whole blocks, some items of a block, some rows of an item, half a row, half a character."""
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    report = evaluate(Unsteady(), given(), output=whole, batch_items=batch_items, metrics="accuracy")
    data = whole.read_bytes()
    ends = [place + 1 for place, byte in enumerate(data) if byte == 10]
    places = [0, 1, 7, 8, 9, *ends[::5], *(end - 1 for end in ends[::7]), *range(400, len(data), 1999)]
    for place in places:
        part.write_bytes(data[:place])
        again = evaluate(Unsteady(), given(), output=part, batch_items=batch_items, metrics="accuracy")
        assert same(again, report), place
        assert without_time(part) == without_time(whole), place


def test_zeros_at_the_end(tmp_path: Path) -> None:
    """What a file system may leave after a power failure."""
    path = tmp_path / "rows.jsonl"
    report = evaluate(ByPairs(), given(), output=path)
    rows, data = without_time(path), path.read_bytes()
    path.write_bytes(data[: len(data) // 2].rpartition(b"\n")[0] + b"\n" + bytes(700))
    assert evaluate(ByPairs(), given(), output=path) == report
    assert without_time(path) == rows


def half(file: int, data: bytes) -> None:
    os.write(file, data[: len(data) // 2])
    die()


def some_items(file: int, data: bytes) -> None:
    os.write(file, b"\n".join(data.split(b"\n")[:6]) + b"\n")
    die()


def all_but_the_end(file: int, data: bytes) -> None:
    os.write(file, data[:-1])
    die()


# where a run of each kind of file kills itself; each goes on from what the one before left
WINDOWS: dict[str, Callable[[], None]] = {
    "in a new file": lambda: at_call(Journal, "append", 1, die),
    "half of the first rows": lambda: at_call(journal, "write", 1, half),
    "some items of a block": lambda: at_call(journal, "write", 1, some_items),
    "before the rest of them": lambda: at_call(Journal, "append", 1, die),
    "before fsync": lambda: at_call(os, "fsync", 1, die),
    "all but a line's end": lambda: at_call(journal, "write", 1, all_but_the_end),
    "before the line's end": lambda: at_call(files, "write", 1, die),
    "after the second block": lambda: at_call(Journal, "append", 2, die),
    "at the end": lambda: at_call(Journal, "finish", 1, die),
}
PARQUET: dict[str, Callable[[], None]] = {
    "before the parquet file": lambda: at_call(parquet, "write", 1, die),
    "before it is in place": lambda: at_call(Path, "replace", 1, die),
    "before the journal is removed": lambda: at_call(Path, "unlink", 3, die),
}


def forked(do: Callable[[], Any]) -> int:
    """Runs `do` in a copy of this process; returns the signal it died of, or 0."""
    child = os.fork()
    if child == 0:
        try:
            do()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_killed_in_every_window(suffix: str, tmp_path: Path) -> None:
    whole, path = tmp_path / f"whole.{suffix}", tmp_path / "new" / f"rows.{suffix}"
    report = evaluate(Unsteady(), given(), output=whole, batch_items=3)
    windows = {**WINDOWS, **(PARQUET if suffix == "parquet" else {})}
    for name, window in windows.items():

        def do(window: Callable[[], None] = window) -> None:
            window()
            evaluate(Unsteady(), given(), output=path, batch_items=3)

        assert forked(do) == signal.SIGKILL, name
    again = evaluate(Unsteady(), given(), output=path, batch_items=3)
    assert same(again, report)
    assert without_time(path) == without_time(whole)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_finished_run_scores_nothing(tmp_path: Path) -> None:
    for suffix in ("jsonl", "parquet"):
        path = tmp_path / f"rows.{suffix}"
        report = evaluate(ByPairs(), given(), output=path)
        before = path.read_bytes()
        scorer = ByPairs()
        assert evaluate(scorer, given(), output=path) == report
        assert scorer.calls == []
        assert path.read_bytes() == before
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
        path.unlink()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_more_items_and_fewer(suffix: str, tmp_path: Path) -> None:
    path, scorer = tmp_path / f"rows.{suffix}", ByPairs()
    evaluate(ByPairs(), given(), limit=3, output=path, batch_items=3)
    assert evaluate(scorer, given(), output=path, batch_items=3) == evaluate(ByPairs(), given())
    # three items have one pair in common
    assert sum(pairs for *_, pairs in scorer.calls) == 4 * (len(given()) - 3) - 2
    rows = without_time(path)
    assert evaluate(scorer, given(), limit=5, output=path) == evaluate(ByPairs(), given(), limit=5)
    assert without_time(path) == rows
    assert len(rows) == 4 * len(given())


class ToldByMatrix(ByMatrix):
    def describe(self) -> dict[str, Any]:
        return {"model": "rule by matrix"}


@pytest.mark.parametrize("kind", [ByPairs, ToldByMatrix])
def test_interrupted(kind: Any, tmp_path: Path) -> None:
    """As by Ctrl-C: what was written stays, and the error is what the caller hears of."""
    path = tmp_path / "rows.jsonl"
    calls = []
    name = "score_pairs" if kind is ByPairs else "matrix"

    class Interrupted(kind):  # type: ignore[misc]
        pass

    def stop(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return getattr(kind, name)(self, *arguments)

    Interrupted.__qualname__, Interrupted.__module__ = kind.__qualname__, kind.__module__
    setattr(Interrupted, name, stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(Interrupted(), given(), output=path, batch_items=2)
    assert len(rows_of(path)) == (16 if kind is ByPairs else 8)
    scorer = kind()
    assert evaluate(scorer, given(), output=path, batch_items=2) == evaluate(kind(), given())
    assert len(rows_of(path)) == 4 * len(given())


@pytest.mark.parametrize("at", ["append", "write"])
def test_interrupted_while_rows_are_written(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: Any) -> Any:
        if at == "write":
            os.write(arguments[0], arguments[1][:500])
        raise KeyboardInterrupt

    path = tmp_path / "rows.jsonl"
    evaluate(ByPairs(), given(), limit=4, output=path, batch_items=2)
    with monkeypatch.context() as patch:
        patch.setattr(Journal if at == "append" else journal, at, stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate(ByPairs(), given(), output=path, batch_items=2)
    assert evaluate(ByPairs(), given(), output=path, batch_items=2) == evaluate(ByPairs(), given())
    assert len(rows_of(path)) == 4 * len(given())


class Named(list[MatchItem]):
    def __init__(self, items: Any, name: str = "set", **about: Any) -> None:
        super().__init__(items)
        self.name, self.about = name, about


# another run on the same output, and what the error names
OTHERS: dict[str, tuple[Any, Any, str]] = {
    "seed": (ByPairs(seed=1), Named(given()), "scorer config seed was 0 and is 1"),
    "model": (ByPairs(model="other"), Named(given()), 'scorer model was "rule" and is "other"'),
    "timesteps": (ByPairs(timesteps=[1]), Named(given()), r"scorer timesteps was \[100, 500\] and is \[1\]"),
    "deltas": (ByPairs(deltas="abc"), Named(given()), 'scorer deltas was null and is "abc"'),
    "dtype": (ByPairs(dtype="float16"), Named(given()), 'scorer dtype was null and is "float16"'),
    "version": (ByPairs(score_version=2), Named(given()), "scorer score_version was null and is 2"),
    "another scorer": (ByMatrix(), Named(given()), "scorer model was "),
    "dataset": (ByPairs(), Named(given(), "other"), 'dataset was "set" and is "other"'),
    "split": (ByPairs(), Named(given(), split="val"), 'items split was null and is "val"'),
    "text": (
        ByPairs(),
        Named([item(0), item(1, texts=["text 1", "new"])]),
        "item 'item 1': text 1 was 'other text 1' and is 'new'",
    ),
    "image": (
        ByPairs(),
        Named([item(0), item(1, images=[picture(2), picture(99)])]),
        "item 'item 1': image_sha256 1 was",
    ),
    "match": (
        ByPairs(),
        Named([item(0, match=np.ones((2, 2), bool))]),
        "item 'item 0': other images and texts",
    ),
    "fewer texts": (
        ByPairs(),
        Named([item(0, texts=["text 0"], match=[[1], [0]])]),
        "item 'item 0': it has 2 images",
    ),
}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", OTHERS)
def test_another_run_is_refused(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{suffix}"
    evaluate(ByPairs(), Named(given()), output=path)
    before = path.read_bytes()
    scorer, listed, message = OTHERS[name]
    with pytest.raises(ConfigError, match=message) as error:
        evaluate(scorer, listed, output=path, metrics="accuracy" if name != "match" else "auto")
    assert str(path) in str(error.value)
    assert "resume=False" in str(error.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_killed_run_of_another_kind_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{suffix}"

    def do() -> None:
        at_call(Journal, "append", 2, die)
        evaluate(ByPairs(), given(), output=path, batch_items=1)

    assert forked(do) == signal.SIGKILL
    with pytest.raises(ConfigError, match="seed was 0 and is 1"):
        evaluate(ByPairs(seed=1), given(), output=path)
    report = evaluate(ByPairs(seed=1), given(), output=path, resume=False)
    assert report == evaluate(ByPairs(seed=1), given())
    assert {row["seed"] for row in rows_of(path)} == {1}


@pytest.mark.parametrize(
    "told",
    [
        {"device": "cuda:0"},
        {"versions": {"torch": "9"}},
        {"config": {"seed": 0, "lambda_": 10.0, "batch_size": 3}},
    ],
    ids=str,
)
def test_what_changes_no_score_is_no_other_run(told: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    report = evaluate(ByPairs(), given(), limit=3, output=path)
    assert evaluate(ByPairs(**told), given(), limit=3, output=path) == report
    evaluate(ByPairs(**told), given(), output=path)
    assert len({row["run"] for row in rows_of(path)}) == 1


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_starting_over(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{suffix}"
    evaluate(ByPairs(seed=1), given(), output=path)
    scorer = ByPairs()
    assert evaluate(scorer, given(3), output=path, resume=False) == evaluate(ByPairs(), given(3))
    assert len(rows_of(path)) == 4 * len(given(3))
    assert len(scorer.calls) == 1


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_two_runs_on_one_output(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{suffix}"

    class Second(ByPairs):
        def score_pairs(self, *arguments: Any) -> Any:
            for resume in (True, False):
                with pytest.raises(ConfigError, match="another process writes rows to"):
                    evaluate(ByPairs(), given(), output=path, resume=resume)
            return super().score_pairs(*arguments)

    assert evaluate(Second(), given(), output=path) == evaluate(ByPairs(), given())
    assert len(rows_of(path)) == 4 * len(given())


def test_an_output_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(journal.fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="cannot be locked"):
        report = evaluate(ByPairs(), given(), output=tmp_path / "rows.jsonl")
    assert report == evaluate(ByPairs(), given())


def start(output: Path, number: int) -> subprocess.Popen[str]:
    package = Path(discffusion.__file__).parents[1]
    path = os.pathsep.join([str(ROOT), str(package)])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.python.evaluation.eval_child", str(output), str(number)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill(output: Path, number: int, lines: int, delay: float) -> None:
    """Kills a run some seconds after so many lines of progress, while it is at work."""
    child = start(output, number)
    assert child.stdout is not None
    for _ in range(lines):
        child.stdout.readline()
    time.sleep(delay)
    child.kill()
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, "it ended before it was killed"


def killed(output: Path, number: int, kills: int, seed: int, most: int) -> dict[str, Any]:
    """What a run says that was killed so often before."""
    draw = random.Random(seed)
    for _ in range(kills):
        done = len(rows_of_whole_lines(output)) // 4
        # lines that were known before are printed too, and at once
        kill(output, number, done // 3 + draw.randrange(most), draw.uniform(0, 0.08))
    child = start(output, number)
    printed, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def rows_of_whole_lines(output: Path) -> list[bytes]:
    path = output if output.suffix == ".jsonl" else output.with_suffix(".partial.jsonl")
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def check_kills(tmp_path: Path, suffix: str, number: int, kills: int, seed: int, most: int) -> None:
    whole, path = tmp_path / f"whole.{suffix}", tmp_path / f"rows.{suffix}"
    child = start(whole, number)
    errors = child.communicate(timeout=300)[1]
    assert child.returncode == 0, errors
    found = killed(path, number, kills, seed, most)
    undisturbed = json.loads(json.dumps(run(whole, number).to_dict()))
    assert {**found, "rows_path": None} == {**undisturbed, "rows_path": None}
    assert without_time(path) == without_time(whole)


@pytest.mark.parametrize(("suffix", "seed"), [("jsonl", 1), ("parquet", 2)])
def test_killed_at_random(suffix: str, seed: int, tmp_path: Path) -> None:
    check_kills(tmp_path, suffix, number=36, kills=2, seed=seed, most=4)


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "seed"), [("jsonl", 20), ("parquet", 21)])
def test_killed_twenty_times_at_random(suffix: str, seed: int, tmp_path: Path) -> None:
    check_kills(tmp_path, suffix, number=480, kills=20, seed=seed, most=6)


def test_two_processes_on_one_output(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    child = start(path, 400)
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(ConfigError, match="another process writes rows to"):
        run(path, 400)
    assert child.poll() is None, "it ended before the other tried"
    child.kill()
    child.communicate(timeout=60)
    assert isinstance(run(None, 3), Report)


def test_rows_of_a_scorer_serve_another_of_the_same(tmp_path: Path) -> None:
    """The settings tell scorers apart, not the objects: with other weights or deltas it is another run."""
    path = tmp_path / "rows.jsonl"
    run(path, 6)
    with Scorer(device="cpu", noise_levels=[0.5], batch_size=1, truncate="silent") as scorer:
        again = evaluate(scorer, discffusion.load_dataset("shapes", n=6), output=path, batch_items=3)
        with pytest.raises(ConfigError, match=r"scorer config noise_levels was \[0\.5\] and is \[0\.4\]"):
            evaluate(
                scorer.with_config(noise_levels=[0.4]), discffusion.load_dataset("shapes", n=6), output=path
            )
        with pytest.raises(ConfigError, match="items seed was 0 and is 5"):
            evaluate(scorer, discffusion.load_dataset("shapes", n=6, seed=5), output=path)
    assert again == run(None, 6)
    with pytest.raises(DatasetError, match="holds no items"):
        evaluate(scorer, [], output=path)
