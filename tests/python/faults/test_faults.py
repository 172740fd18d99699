"""Faults of many kinds at every stage: how it ends is told, and the same call gives the same numbers afterwards.

`python -m tests.benchmarks.faults` strikes more often, and counts.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from tests.python.faults.damage import corrupt_shards, vanished_images
from tests.python.faults.stages import FILES, STAGES, scorer
from tests.python.faults.start import lines, struck
from tests.python.faults.strikes import DONE

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="strikes by Linux's means")

TYPED = {"ConfigError", "DeltasError", "DiscffusionError", "OutputError", "TrainingError"}
# by fault: the stages it happens to, and how those may end
FAULTS: dict[str, tuple[list[str], set[str]]] = {
    "ctrl-c": (list(STAGES), {"KeyboardInterrupt", DONE}),
    "kill": (list(FILES), {"killed by SIGKILL", DONE}),
    "file size": (list(FILES), {*TYPED, DONE}),
    "full disk": (list(FILES), {*TYPED, DONE}),
    "read-only": (list(FILES), TYPED),
    "fork": (["load", "matrix", "explain", "generate"], {DONE}),
    "threads": (["matrix", "rank", "observe", "explain", "generate"], {DONE}),
}


SLOW = "save an explanation"  # pictures take seconds


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(fault: str, tmp_path: Path) -> None:
    stages, ends = FAULTS[fault]
    stages = [stage for stage in stages if stage != SLOW]
    times = 1 if fault in ("fork", "read-only", "threads") else 2
    found = struck(fault, stages, times, 1, tmp_path)
    if not found:
        pytest.skip("this process may not mount a disk")
    assert [one["stage"] for one in found] == stages
    for one in found:
        assert set(one["how"]) <= ends and sum(one["how"].values()) == times, one
        assert one["wrong"] == 0, one


def test_corrupt_shards(tmp_path: Path) -> None:
    found = corrupt_shards(40, random.Random(1), tmp_path)
    assert sum(found.values()) == 40 and {"told as unreadable", "rows with an error"} <= found.keys()


def test_vanished_images(tmp_path: Path) -> None:
    with scorer() as own:
        vanished_images(2, random.Random(1), tmp_path, own)


def test_a_run_with_one_fault_after_the_other(refusing: dict[str, str], tmp_path: Path) -> None:
    (found,) = lines("long_run", "40", "1", str(tmp_path), **refusing)
    assert (found["rows"], found["missing"], found["twice"], found["same"]) == (160, 0, 0, True)
    assert all(any(name.startswith(fault) for name in found["how"]) for fault in ("kill", "ctrl-c", "error"))


def test_scores_take_no_more_memory() -> None:
    """Between the second and the last tenth, within what the allocator keeps."""
    (resident,) = lines("growth", "300")
    assert resident[-1] - resident[1] < 8 << 20, resident
