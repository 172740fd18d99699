"""What recorded CUDA graphs save: calls of one image and one text, with and without them, in turns.

`python -m tests.benchmarks.graphs [--model FOLDER] [--device NAME] [--rounds N] [--calls N] [--steps N ...]`. Each
side is a process of its own, since the switch is read once; texts and images change from call to call, so that nothing
is known beforehand. Prints milliseconds a call, medians of the rounds, their ratio, and how far scores are apart.
Without a device both sides do the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import IO, Any

CHILD = """
import json, sys, time
import numpy as np
from discffusion import ScoreConfig, Scorer

model, device, calls = json.loads(sys.argv[1])
scorer = Scorer(model, device=device)
side = scorer.info()["resolution"]
images = [np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8) for seed in range(4)]
texts = ["a red circle", "two dogs on a sofa", "an old green bus in front of a house"]
for line in sys.stdin:
    own = scorer.with_config(ScoreConfig(map="logits", lambda_=1.0, layers="all", steps=int(line)))
    begun = time.perf_counter()
    scores = [own.score(images[i % 4], texts[i % 3]) for i in range(calls)]
    print(json.dumps([(time.perf_counter() - begun) / calls, scores]), flush=True)
"""


class Side:
    """A process that scores when it is asked to."""

    def __init__(self, switch: str, options: argparse.Namespace) -> None:
        arguments = json.dumps([options.model, options.device, options.calls])
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, arguments],
            env={**os.environ, "DISCFFUSION_GRAPHS": switch},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def score(self, steps: int) -> tuple[float, list[float]]:
        print(steps, file=_open(self.process.stdin), flush=True)
        seconds, scores = json.loads(_open(self.process.stdout).readline())
        return seconds, scores

    def end(self) -> None:
        _open(self.process.stdin).close()
        self.process.wait()


def _open(pipe: IO[Any] | None) -> IO[Any]:
    assert pipe is not None
    return pipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=12)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4, 10])
    options = parser.parse_args()
    sides = [Side(switch, options) for switch in "01"]
    print("| timesteps | without, ms | with, ms | times as fast | scores apart |\n|---|---|---|---|---|")
    for steps in options.steps:
        for side in sides:  # what is compiled and recorded is so from here on
            side.score(steps)
        rounds = [[side.score(steps) for side in sides] for _ in range(options.rounds)]
        times = [
            statistics.median(seconds for seconds, _ in of_side) for of_side in zip(*rounds, strict=True)
        ]
        apart = max(
            abs(a / b - 1) for (_, ours), (_, theirs) in rounds for a, b in zip(ours, theirs, strict=True)
        )
        plain, recorded = (1000 * seconds for seconds in times)
        print(
            f"| {steps} | {plain:.2f} | {recorded:.2f} | {plain / recorded:.2f} | {apart:.0e} |", flush=True
        )
    for side in sides:
        side.end()


if __name__ == "__main__":
    main()
