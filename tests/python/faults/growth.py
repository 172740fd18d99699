"""Memory of a process that scores again and again: ``python -m tests.python.faults.growth SCORES``.

Prints, as JSON, the resident bytes after each tenth of the scores.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from tests.python.faults.stages import TEXT

from discffusion import Scorer
from discffusion._memory import process


def main() -> None:
    tenth = int(sys.argv[1]) // 10
    draw = np.random.default_rng(0)
    found = []
    with Scorer(device="cpu", noise_levels=[0.5], layers=["down.0.0"]) as scorer:
        for _ in range(10):
            for number in range(tenth):
                image = draw.integers(0, 256, (32 + number % 8, 32, 3), dtype=np.uint8)
                scorer.score(image, f"{TEXT} {number % 50}")
            found.append(process()["resident"])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
