"""An evaluation with one fault after the other: ``python -m tests.python.faults.long_run ITEMS SEED FOLDER``.

It is started again after each until it comes to its end. Prints, as JSON, which faults there were, and what is wrong
with the rows: how many pairs are missing, how many are there twice, and whether scores and report are those of a run
that was left alone.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

from tests.python.faults import strikes
from tests.python.refusing import refused

from discffusion import Report, Scorer, evaluate, load_dataset

FAULTS = ("kill", "ctrl-c", "memory", "file size", "error")


def struck(fault: str, work: Any, scorer: Scorer, draw: random.Random, rows: Path, seconds: float) -> str:
    run = partial(work, scorer)
    if fault == "kill":
        return strikes.killed(run, draw.uniform(0, seconds))
    if fault == "ctrl-c":
        return strikes.ctrl_c(run, draw.uniform(0, seconds))[0]
    if fault == "memory":
        with refused(round(2 ** draw.uniform(14, 19))):
            return strikes.ended(partial(work, scorer.with_config(batch_size=256)))
    if fault == "file size":
        size = rows.stat().st_size if rows.exists() else 0
        return strikes.large_files_refused(run, size + draw.randrange(40_000))
    return strikes.ended(partial(work, strikes.Failing(scorer, draw, 0.05)))


def compared(report: Report, whole: Report, rows: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    pairs = Counter((row["key"], row["image_index"], row["text_index"]) for row in lines)
    wanted = {
        (record.key, image, text)
        for record in whole.records
        for image in range(record.scores.shape[0])
        for text in range(record.scores.shape[1])
    }
    near = all(
        bool(
            (abs(a.scores - b.scores) <= 1e-5 * abs(b.scores)).all()
        )  # batches of another size round otherwise
        for a, b in zip(report.records, whole.records, strict=True)
    )
    return {
        "rows": len(lines),
        "missing": len(wanted - pairs.keys()),
        "twice": sum(count - 1 for count in pairs.values()),
        "same": near and report["accuracy"] == whole["accuracy"],
    }


def main() -> None:
    number, seed, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    draw = random.Random(seed)
    items = load_dataset("shapes", split="eval", n=number)
    rows = folder / "rows.jsonl"
    how: Counter[str] = Counter()
    with Scorer(device="cpu", noise_levels=[0.5], layers=["down.0.0"], batch_size=8) as scorer:

        def work(scorer: Any, output: Path = rows) -> Report:
            return evaluate(scorer, items, output=output, batch_items=1, metrics="accuracy", progress=False)

        started = time.perf_counter()
        whole = work(scorer, folder / "whole.jsonl")
        seconds = (time.perf_counter() - started) / 8
        done = False
        while not done:
            for fault in FAULTS:
                ended = struck(fault, work, scorer, draw, rows, seconds)
                how[f"{fault}: {ended}"] += 1
                done = done or ended.startswith(strikes.DONE)
        print(json.dumps({"how": how, **compared(work(scorer), whole, rows)}))


if __name__ == "__main__":
    main()
