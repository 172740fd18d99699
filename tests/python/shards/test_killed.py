"""Workers that are killed and started again: every row once, the same as those of one process that was left alone."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.python.shards.made_up import ByDigest, rows, start, tars

from discffusion import score_shards


def test_killed_at_random(tmp_path: Path) -> None:
    """Two workers, of which one is killed three times; in the end three workers do the rest."""
    tars(tmp_path / "in", 40, 20)
    score_shards(tmp_path / "in", tmp_path / "whole", ByDigest())
    draw = random.Random(7)
    workers = [start(tmp_path / "in", tmp_path / "out", index, 2) for index in range(2)]
    kills = 0
    while kills < 3:
        victim = draw.randrange(2)
        line = workers[victim].stdout.readline() if workers[victim].stdout else ""
        assert line, "it ended before it was killed"
        time.sleep(draw.uniform(0, 0.05))
        workers[victim].kill()
        workers[victim].communicate(timeout=60)
        kills += 1
        workers[victim] = start(tmp_path / "in", tmp_path / "out", victim, 2)
    for worker in workers:
        worker.kill()
        worker.communicate(timeout=60)
    assert 0 < len(list((tmp_path / "out").glob("*.parquet"))) < 40, "nothing was left to do"
    last = [start(tmp_path / "in", tmp_path / "out", index, 3) for index in range(3)]
    for worker in last:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")
    assert len(rows(tmp_path / "out")) == 800
