"""What few-shot training gains on the pocket model: `python -m tests.benchmarks.few_shot`.

Trains on a few items of the dataset shapes (270 are 5 % and 27 are 0.5 % of what the paper had), with three seeds that
choose items, order, timesteps and noise, and measures on the split test, which nothing was chosen on. Prints one row a
variant: mean over seeds of the mean over the four subsets, before and after. A comparison is won if the matching pair
scores strictly higher.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from discffusion import Scorer, Trainer, load_dataset
from discffusion.data.item import MatchItem

SUBSETS = ("subject", "object", "attribute", "predicate")
VARIANTS: dict[str, dict[str, Any]] = {
    "triplet": {},
    "cross-entropy": {"loss": "cross_entropy"},
    "binary cross-entropy": {"loss": "binary_cross_entropy"},
    "diffusion": {"loss": "diffusion"},
    "triplet, rank 4": {"rank": 4},
    "triplet, pre-trained": {},
    "timesteps of the score": {"timesteps": "config"},
    "noise range": {"timesteps": "range"},
    "all timesteps": {"timesteps": "uniform"},
    "temperature by noise": {"temperature_schedule": "noise"},
    "texts of the batch": {"batch_texts": 4},
}
# The scores that are trained and measured. That of five timesteps is as of a small checkpoint that was not made here.
SCORES: dict[str, dict[str, Any]] = {
    "attention": {"config": "attention"},
    "attention, 5 steps": {"config": "attention", "steps": 5},
    "logits, 5 steps": {
        "config": "attention",
        "map": "logits",
        "layers": "all",
        "steps": 5,
        "noise_range": None,
    },
    "default": {},
    "default, 5 steps": {"steps": 5},
    "attention, prior": {"config": "attention", "prior": "null"},
}
# How the trained deltas are measured: as they were trained, and with the head weights they learned (the diffusion loss
# forms no maps, so it learns none).
HEADS: dict[str, dict[str, Any]] = {"mean": {}, "learned": {"heads": "learned"}}


def won(scorer: Scorer, items: Sequence[MatchItem]) -> float:
    """Share of comparisons won, percent: for every item of 2 images and 2 texts, each text and each image once."""
    images = [image for item in items for image in item.images]
    texts = [text for item in items for text in item.texts]
    rows = [2 * k + i for k in range(len(items)) for i in (0, 0, 1, 1)]
    columns = [2 * k + j for k in range(len(items)) for j in (0, 1, 0, 1)]
    scores = scorer.score([images[i] for i in rows], [texts[j] for j in columns]).reshape(-1, 2, 2)
    match = np.stack([item.match for item in items])
    scores = np.where(match[:, :1, :1], scores, scores[:, ::-1])  # the match on the diagonal
    right, wrong = scores[:, (0, 1), (0, 1)], scores[:, (0, 1), (1, 0)]
    return float(100 * np.mean([right > wrong, right > wrong[:, ::-1]]))


def measure(scorer: Scorer, n: int, split: str) -> dict[str, float]:
    """By subset and their mean."""
    found = {
        name: won(scorer, load_dataset("shapes", split=split, subset=name, n=n, seed=2718))
        for name in SUBSETS
    }
    return {**found, "mean": float(np.mean(list(found.values())))}


def run(name: str, items: int, seed: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One training and what it came to, a row for each way to weigh heads."""
    trainer = Trainer(
        pretrained(seed) if name.endswith("pre-trained") else Scorer(**SCORES[arguments.score]),
        seed=seed,
        **VARIANTS[name],
    )
    train = load_dataset("shapes", split="train", n=items, seed=1000 + seed)
    start = time.perf_counter()
    history = trainer.fit(train, epochs=arguments.epochs[items], batch_size=8)
    about = {"items": items, "seed": seed, "steps": len(history), "seconds": time.perf_counter() - start}
    return [
        {
            "variant": name,
            "heads": heads,
            **about,
            **measure(trainer.scorer.with_config(**fields), arguments.n, arguments.split),
        }
        for heads, fields in HEADS.items()
        if heads in arguments.heads and (heads == "mean" or trainer.deltas.head_weights is not None)
    ]


def pretrained(seed: int) -> Scorer:
    """A scorer with deltas from captioned images alone, as in the last row of Table 1: in a batch, each caption is a
    negative of every other image. The captions are those of scenes outside the few-shot items."""
    captioned = [
        MatchItem(f"{item.key}/{i}", [item.images[i]], [item.texts[int(item.match[i].argmax())]], [[True]])
        for item in load_dataset("shapes", split="train", n=500, seed=5000 + seed)
        for i in range(len(item.images))
    ]
    trainer = Trainer(Scorer(config="attention"), seed=seed, in_batch=True)
    trainer.fit(captioned, epochs=2, batch_size=8)
    return trainer.scorer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=[270, 27])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS)[:6])
    parser.add_argument("--score", choices=SCORES, default="attention")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--epochs", type=int, help="in place of 8 or more")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n", type=int, default=200, help="items a subset that are measured")
    parser.add_argument("--split", default="test")
    parser.add_argument("--json", action="store_true", help="print every run as a line of JSON")
    arguments = parser.parse_args()
    # Equally long trainings in steps would be too short for few items and too long for many.
    arguments.epochs = {
        items: arguments.epochs or max(8, min(30, 2160 // items)) for items in arguments.items
    }
    before = measure(Scorer(**SCORES[arguments.score]), arguments.n, arguments.split)
    print(
        json.dumps({"variant": "zero-shot", **before}) if arguments.json else f"zero-shot: {before}",
        flush=True,
    )
    for items in arguments.items:
        for name in arguments.variants:
            runs = [row for seed in arguments.seeds for row in run(name, items, seed, arguments)]
            for row in runs if arguments.json else ():
                print(json.dumps(row), flush=True)
            for heads in () if arguments.json else HEADS:
                if measured := [row for row in runs if row["heads"] == heads]:
                    report(f"{items} items, {name}, heads {heads}", measured, before)


def report(title: str, runs: list[dict[str, Any]], before: dict[str, float]) -> None:
    """One line over the seeds."""
    figures = {key: [row[key] for row in runs] for key in (*SUBSETS, "mean")}
    means = ", ".join(f"{key} {np.mean(values):.1f}" for key, values in figures.items())
    spread = f"{min(figures['mean']):.1f} to {max(figures['mean']):.1f}"
    gain = np.mean(figures["mean"]) - before["mean"]
    seconds = np.mean([row["seconds"] for row in runs])
    print(f"{title}: {means} ({spread}; {gain:+.1f}; {seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
