"""The switch of the kernels of this project: with and without them, scores are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# Whatever a digest of the map is enough for, and one thing that it is not.
CONFIGS = [
    {
        "map": kind,
        "pooling": "lse",
        "lambda_": lambda_,
        "tokens": tokens,
        "heads": heads,
        "layers": "all",
        "steps": 2,
    }
    for kind in ("logits", "probs", "cosine")
    for lambda_, tokens, heads in [
        (1.0, "all", "mean"),
        (20.0, "content", "attributed"),
        (2.0, "all", [0, 2]),
    ]
] + [{"map": "probs", "pooling": "max_row", "layers": "all", "steps": 2}]
CONFIGS.append({"method": "combined", "map": "logits", "pooling": "lse", "layers": "all", "steps": 2})

CHILD = """
import json, sys
import numpy as np
from discffusion import ScoreConfig, Scorer
scorer = Scorer()
images = [np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8) for seed in range(2)]
texts = ["a red circle", "a blue square left of a green triangle"]
configs = json.loads(sys.argv[1])
scores = [scorer.with_config(ScoreConfig(**config)).matrix(images, texts).tolist() for config in configs]
print(json.dumps(scores))
"""


def scores(switch: str) -> list[list[list[float]]]:
    env = {**os.environ, "DISCFFUSION_FUSED": switch}
    line = [sys.executable, "-c", CHILD, json.dumps(CONFIGS)]
    done = subprocess.run(line, env=env, check=True, stdout=subprocess.PIPE, text=True)
    found: list[list[list[float]]] = json.loads(done.stdout)
    return found


def test_the_switch_changes_speed_alone() -> None:
    ours, plain = scores("1"), scores("0")
    assert ours != plain, "the switch reaches the kernels"
    for config, a, b in zip(CONFIGS, ours, plain, strict=True):
        assert a == [pytest.approx(row, rel=1e-5) for row in b], config
