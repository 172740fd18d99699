"""Shards on Ray Data: actors die and the rows are those of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.python.shards.made_up import ROOT, ByDigest, rows, tars

import discffusion
from discffusion import ConfigError, score_shards

pytest.importorskip("ray")

# In a process of its own: Ray starts servers, which end with it.
_RUN = """
import json, os, signal, sys, threading, time
from pathlib import Path
import ray
from discffusion import DiscffusionError, score_shards
from tests.python.shards.made_up import ByDigest
source, output, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
ray.init(num_cpus=2, include_dashboard=False, logging_level="error", object_store_memory=100 << 20)
pids = output.parent / "pids"
pids.mkdir()

class Slow(ByDigest):
    def __init__(self):
        super().__init__(seconds=0.05)
        (pids / str(os.getpid())).touch()

def kill():
    done = 0
    while done < kills:
        time.sleep(0.2)
        files = len(list(output.glob("*.parquet"))) if output.exists() else 0
        for path in pids.iterdir():
            if files > 3 * done + 2:
                path.unlink()
                os.kill(int(path.name), signal.SIGKILL)
                done += 1
                break
    print("killed", done, flush=True)

thread = threading.Thread(target=kill, daemon=True)
thread.start()
found = score_shards(source, output, Slow, launcher="ray", actors=2)
thread.join()
print(json.dumps(found.to_dict()), flush=True)
again = score_shards(source, output, ByDigest, launcher="ray", actors=(1, 2))
print(json.dumps(again.to_dict()), flush=True)

class Failing(ByDigest):
    def score_pairs(self, *_):
        raise DiscffusionError("out of order")

try:
    score_shards(source, str(output) + "-other", Failing, launcher="ray")
except DiscffusionError as error:
    print(json.dumps([type(error).__name__, str(error)]), flush=True)
"""


@pytest.mark.slow
def test_actors_are_killed(tmp_path: Path) -> None:
    tars(tmp_path / "in", 24, 10)
    (tmp_path / "in" / "00024.tar").write_bytes(b"no tar" * 500)
    path = os.pathsep.join([str(ROOT), str(Path(discffusion.__file__).parents[1])])
    run = subprocess.run(
        [sys.executable, "-c", _RUN, str(tmp_path / "in"), str(tmp_path / "out"), "2"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    said = [line for line in run.stdout.splitlines() if line.startswith(("{", "[", "killed"))]
    assert said[0] == "killed 2"
    found, again, error = map(json.loads, said[-3:])
    assert (found["shards"], found["done"], found["rows"], found["left"]) == (25, 24, 240, 1)
    assert list(found["failed"]) == ["00024.tar"]
    assert (again["scored"], again["done"], list(again["failed"])) == (0, 24, ["00024.tar"])
    assert error == ["DiscffusionError", "shard 00000.tar: out of order"]
    score_shards(tmp_path / "in", tmp_path / "whole", ByDigest())
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")


def test_what_cannot_be_sent(tmp_path: Path) -> None:
    tars(tmp_path / "in", 1, 1)
    with pytest.raises(ConfigError, match="on Ray each actor makes its own"):
        score_shards(tmp_path / "in", tmp_path / "out", ByDigest(), launcher="ray")
