"""``discffusion score-shards``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.python.shards.made_up import rows, tars
from typer.testing import CliRunner

import discffusion
from discffusion.cli import build_app

QUICK = ["--noise-levels", "0.5", "--layers", "down", "--device", "cpu"]


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(build_app(), ["score-shards", *arguments])
    return result.exit_code, result.stdout, result.stderr


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    package = Path(discffusion.__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-m", "discffusion", "score-shards", *arguments],
        env={**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a job in the background starts deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def without_warnings(errors: str) -> str:
    """What was said beside that the bundled model does not know a text."""
    return "".join(
        line for line in errors.splitlines(True) if "the bundled pocket model does not know" not in line
    )


def test_the_shares_of_two_processes(tmp_path: Path) -> None:
    """As torchrun tells them, and as options do; then how far everything is."""
    tars(tmp_path / "in", 3, 2)
    given = [str(tmp_path / "in"), str(tmp_path / "out")]
    first = start(*given, *QUICK, "--json", RANK="0", WORLD_SIZE="2", LOCAL_RANK="0")
    printed, errors = first.communicate(timeout=120)
    assert (first.returncode, without_warnings(errors)) == (0, "")
    found = json.loads(printed)
    assert (found["shards"], found["scored"], found["rows"], found["left"]) == (2, 2, 4, 1)
    code, printed, _ = invoke(*given, *QUICK, "--shard-index", "1", "--num-shards", "2")
    assert code == 0 and "nothing is left" in printed
    code, printed, _ = invoke(*given, "--summary", "--json")
    assert code == 0 and json.loads(printed)["rows"] == len(rows(tmp_path / "out")) == 6


def test_a_shard_that_cannot_be_read(tmp_path: Path) -> None:
    tars(tmp_path / "in", 2, 1)[0].write_bytes(b"no tar" * 300)
    code, printed, errors = invoke(str(tmp_path / "in"), str(tmp_path / "out"), *QUICK)
    assert code == 1 and "1 of 2 shards are done" in printed
    assert errors.startswith("discffusion: shard 00000.tar could not be read: ") and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["in"], 2, "score-shards IN... OUT"),
        (["in", "out", "--actors", "many"], 2, "--actors is 'many'"),
        (["in", "out", "--launcher", "mpi"], 2, "mpi"),
        (["nowhere", "out"], 1, "there are no shards 'nowhere'"),
        (["in", "out", "--shard-index", "2"], 2, "give both or neither"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    tars(tmp_path / "in", 1, 1)
    code, _, errors = invoke(*arguments)
    assert code == status and message in " ".join(errors.split())


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C stops it within a second or two, with one line and no half a file; the next call goes on."""
    tars(tmp_path / "in", 40, 40)
    given = [str(tmp_path / "in"), str(tmp_path / "out"), "--steps", "4", "--device", "cpu"]
    child = start(*given)
    until = time.monotonic() + 60
    while not list(tmp_path.glob("out/*.parquet")):
        assert time.monotonic() < until and child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    sent = time.monotonic()
    _, errors = child.communicate(timeout=30)
    assert (child.returncode, without_warnings(errors)) == (1, "discffusion: interrupted\n")
    assert time.monotonic() - sent < 5
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".parquet"}


def test_a_tar_without_its_end(tmp_path: Path) -> None:
    """As the option that is said, and as the one that had another meaning elsewhere."""
    (shard,) = tars(tmp_path / "in", 1, 2)
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole.rstrip(b"\0")) // 512 * 512 + 512])
    code, _, errors = invoke(str(shard), str(tmp_path / "a"), *QUICK)
    assert code == 1 and "has no mark at its end" in errors
    assert "or read what is there with --allow-cut" in errors
    code, _, errors = invoke(str(shard), str(tmp_path / "b"), *QUICK, "--allow-cut")
    assert (code, errors) == (0, "")
    code, _, errors = invoke(str(shard), str(tmp_path / "c"), *QUICK, "--allow-missing")
    assert (code, errors) == (0, "discffusion: warning: --allow-missing of score-shards is --allow-cut now\n")
    assert len(rows(tmp_path / "b")) == len(rows(tmp_path / "c")) == 2
    shown = invoke("--help")[1]
    assert "--allow-cut" in shown and "--allow-missing" not in shown
