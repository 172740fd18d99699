"""Staged elimination on `shapes`: how much work it saves, and whether the winner is that of all timesteps.

    python -m tests.benchmarks.staged --items 300 --many 60

Each picture is ranked against 10 texts (subset `referring`: nine of them differ in one or two words) and against 100
(the right one and 99 captions of other pictures), by attention and by denoising, at 50 timesteps. All timesteps are
scored too, so that winners can be compared. The seed's items were used for nothing else.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from discffusion import Scorer, load_dataset
from discffusion.evaluation.intervals import wilson
from discffusion.stages import check_stages, eliminate

CONFIGS: dict[str, dict[str, Any]] = {
    "attention": {"noise_levels": np.linspace(0.65, 0.29, 50).tolist()},
    "denoising": {"method": "denoising", "steps": 50},
}
STAGES = [
    ((4, 8, 12, 16, 24, 32, 40, 50), None),
    ((4, 8, 16, 32, 50), None),
    ((4, 12, 50), None),
    ((4, 12, 50), 0.4),
    ((4, 12, 50), 0.2),
    ((4, 12, 50), 0.5),
]


def few(number: int, seed: int) -> Iterator[tuple[Any, list[str]]]:
    for item in load_dataset("shapes", split="test", subset="referring", n=number, seed=seed):
        yield item.images[0], item.texts


def many(number: int, seed: int) -> Iterator[tuple[Any, list[str]]]:
    captions = [
        text for item in load_dataset("shapes", split="test", n=2000, seed=seed + 1) for text in item.texts
    ]
    captions = list(dict.fromkeys(captions))
    for place, item in enumerate(load_dataset("shapes", split="test", subset="object", n=number, seed=seed)):
        others = [text for text in captions if text != item.texts[0]]
        chosen = np.random.default_rng([seed, place]).choice(len(others), 99, replace=False)
        yield item.images[0], [item.texts[0], *(others[k] for k in chosen)]


def measure(scorer: Scorer, cases: Iterator[tuple[Any, list[str]]]) -> dict[str, Any]:
    work = dict.fromkeys(STAGES, 0)
    agreed = dict.fromkeys(STAGES, 0)
    total = number = 0
    for image, texts in cases:
        pairs = [(0, j) for j in range(len(texts))]
        steps = scorer.score_pairs([image], texts, pairs, per_step=True, progress=False)
        full = steps.mean(axis=1)
        total, number = total + steps.size, number + 1
        for stages in STAGES:

            def look_up(rows: Any, added: list[int], stages: Any = stages, steps: Any = steps) -> Any:
                work[stages] += len(rows) * len(added)
                return steps[rows[:, 1]][:, added]

            scores, _ = eliminate((1, len(texts)), look_up, *check_stages(*stages))
            agreed[stages] += int(full[scores[0].argmax()] == full.max())
    rows = []
    for stages in STAGES:
        low, high = wilson(agreed[stages] / number, number)
        rows.append(
            {"stages": stages[0], "keep": stages[1], "fewer": total / work[stages],
             "agreement": agreed[stages] / number, "low": low, "high": high}
        )  # fmt: skip
    return {"pictures": number, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=300, help="pictures with 10 texts")
    parser.add_argument("--many", type=int, default=60, help="pictures with 100 texts")
    parser.add_argument("--seed", type=int, default=424242)
    given = parser.parse_args()
    for name, config in CONFIGS.items():
        scorer = Scorer(device="cpu", **config)
        for candidates, cases in ((10, few(given.items, given.seed)), (100, many(given.many, given.seed))):
            found = measure(scorer, cases)
            print(json.dumps({"method": name, "candidates": candidates, "pictures": found["pictures"]}))
            for row in found["rows"]:
                keep = "3 standard errors" if row["keep"] is None else f"keep {row['keep']}"
                print(
                    f"  {row['stages']!s:22} {keep:18} {row['fewer']:.2f} times fewer evaluations, same winner "
                    f"{row['agreement']:.1%} ({row['low']:.1%} to {row['high']:.1%})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
