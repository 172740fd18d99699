"""What looking costs: a forward pass with the pooled scores of all layers, beside the same pass without.

`python -m tests.benchmarks.observing [--model FOLDER] [--rounds N] [--steps N] [--texts N]`, by default on the pocket
model. Every round runs all variants in turn, so that a change of the machine's speed meets all alike; the overhead is
the median of the rounds' own ratios. With DISCFFUSION_FUSED=0 in the environment libtorch's operators are measured in
place of the kernels of this project.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from discffusion import ScoreConfig, Scorer
from discffusion.images import prepare

# The whole network runs in each: for its prediction alone, or for maps too.
BARE = {"method": "denoising", "unconditional": False}
SEEING = BARE | {
    "method": "combined",
    "layers": "all",
    "pooling": "lse",
    "lambda_": 1.0,
    "heads": "mean",
    "tokens": "all",
}
VARIANTS = {
    "bare": BARE,
    "logits": SEEING | {"map": "logits"},
    "logits, own tokens": SEEING | {"map": "logits", "tokens": "content"},
    "probs": SEEING | {"map": "probs"},
    "probs, attributed heads": SEEING | {"map": "probs", "heads": "attributed"},
    "cosine": SEEING | {"map": "cosine"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--texts", type=int, default=4)
    options = parser.parse_args()
    scorer = Scorer(options.model) if options.model else Scorer()
    image = prepare(np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8))
    texts = [f"a red circle left of {i} blue squares" for i in range(options.texts)]
    pairs = np.array([(0, text) for text in range(options.texts)])
    steps = range(options.steps)
    ready = {
        name: scorer.with_config(ScoreConfig(steps=options.steps, **variant))._prepare([image], texts, None)
        for name, variant in VARIANTS.items()
    }
    times: dict[str, list[float]] = {name: [] for name in ready}
    for prepared in ready.values():
        prepared.score(pairs, steps, None)
    for _ in range(options.rounds):
        for name, prepared in ready.items():
            start = time.perf_counter()
            prepared.score(pairs, steps, None)
            times[name].append(time.perf_counter() - start)
    evaluations = options.steps * options.texts
    for name, taken in times.items():
        ratios = [own / bare - 1 for own, bare in zip(taken, times["bare"], strict=True)]
        print(
            f"{name:24} {1e3 * statistics.median(taken) / evaluations:9.3f} ms an evaluation,"
            f" least {1e3 * min(taken) / evaluations:9.3f}, overhead {100 * statistics.median(ratios):+6.1f} %,"
            f" of the least {100 * (min(taken) / min(times['bare']) - 1):+6.1f} %"
        )


if __name__ == "__main__":
    main()
