"""Faults, each with every stage: ``python -m tests.python.faults.child FAULT STAGES TIMES SEED FOLDER``.

Prints a line of JSON a stage: how often it ended how, and how often the same call gave something else afterwards.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "2" if sys.argv[1] == "fork" else "1"  # stacks of threads count as memory too

from tests.python.faults import strikes
from tests.python.faults.disk import mounted
from tests.python.faults.stages import LARGE, STAGES, Found, Stage, prepare, same, scorer

# Sums of another batch size, or by another number of threads, are rounded otherwise.
ROUNDING = 1e-5


def strike(
    fault: str, run: Callable[[], Any], draw: random.Random, disk: Any, seconds: float
) -> tuple[str, float]:
    """How a piece of work ends to which a fault happens, and how long it took to be noticed."""
    if fault == "ctrl-c":
        return strikes.ctrl_c(run, draw.uniform(0, seconds))
    if fault == "kill":
        return strikes.killed(run, draw.uniform(0, seconds)), 0.0
    if fault == "threads":
        return strikes.in_threads(run, 4, lambda a, b: same(a, b, ROUNDING)), 0.0
    if fault == "file size":
        return strikes.large_files_refused(run, round(2 ** draw.uniform(0, 17))), 0.0
    if fault == "full disk":
        return strikes.full_disk(
            run, disk, round(2 ** draw.uniform(12, 20)) if draw.random() > 0.2 else 0
        ), 0.0
    assert fault == "read-only"
    return strikes.read_only(run, disk), 0.0


def checked(run: Callable[[], Any], expected: Found) -> None:
    assert same(run(), expected, ROUNDING)


def with_little_memory(run: Callable[[], Any], expected: Found, more: float) -> str:
    """How it ends, and whether the numbers are right when there is memory again."""
    ended = strikes.little_memory(run, round(more))
    return ended if same(run(), expected, ROUNDING) else f"{ended}, and other numbers afterwards"


def strike_stage(
    fault: str, name: str, stage: Stage, times: int, draw: random.Random, place: Path, disk: Any
) -> dict[str, Any]:
    how: Counter[str] = Counter()
    wrong = 0
    slowest = 0.0
    with scorer() as own:
        struck = own.with_config(batch_size=256) if fault == "memory" else own
        stage(own, _new(place / "first"))
        started = time.perf_counter()
        expected = stage(own, _new(place / "whole"))
        seconds = time.perf_counter() - started
        for number in range(times):
            folder = _new(place / str(number))
            run = partial(stage, struck, folder)
            if fault == "fork":
                how[strikes.forked(partial(checked, run, expected), 60)] += 1
            elif fault == "memory":
                how[strikes.apart(partial(with_little_memory, run, expected, 2 ** draw.uniform(22, 28)))] += 1
            else:
                ended, took = strike(fault, run, draw, disk, seconds)
                how[ended] += 1
                slowest = max(slowest, took)
                wrong += not same(run(), expected) or bool(list(folder.rglob(".*.tmp")))
            shutil.rmtree(folder)
    return {"stage": name, "how": how, "wrong": wrong, "slowest": round(slowest, 3), "times": times}


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    prepare(folder)
    return folder


def main() -> None:
    fault, names, times, seed, place = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts deaf to it
    draw = random.Random(int(seed))
    path = Path(place) / "disk"
    with mounted(path, 16 << 20) as disk:
        if disk is None and fault in ("full disk", "read-only"):
            print(json.dumps("a disk cannot be mounted"))
            return
        for name in names.split(","):
            found = strike_stage(fault, name, {**STAGES, **LARGE}[name], int(times), draw, path / name, disk)
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
