"""Which score is the default, and why: `python -m tests.benchmarks.default_score`.

For pictures of the dataset shapes, how often the right caption scores above texts of other kinds (a word, a fragment,
a photograph's caption, wrong captions shorter, longer and of the same length), and for items that differ in one thing
how many comparisons are won: by attention, by the denoising error and by their sum, over ranges of noise levels and
numbers of steps. Scores at every level of a grid are computed once; ranges and sums are formed from them. Choose with
`--split eval`, measure what was chosen with `--split test`, another `--seed` and `--only`.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion import Scorer, load_dataset
from discffusion.evaluation.intervals import wilson

SUBSETS = ("subject", "object", "attribute", "predicate")
#: What the right caption is compared with, by column.
KINDS = (
    "nothing",
    "a",
    "a photo",
    "a dog on a sofa",
    "fragment",
    "wrong thing",
    "two wrong",
    "other picture's",
)
GRID = tuple(round(0.95 - 0.08 * i, 2) for i in range(12))
PARTS: dict[str, dict[str, Any]] = {
    "attention": {"config": "attention"},
    "release": {"config": "release", "method": "attention"},
    "norm": {"method": "denoising", "denoising_error": "norm"},
    "mse": {"method": "denoising", "denoising_error": "mse"},
}


def pictures(split: str, seed: int, n: int) -> tuple[list[Any], list[list[str]]]:
    """One picture an item, and its texts: the right caption first, then one of each kind."""
    items = load_dataset("shapes", split=split, subset="winoground", n=n, seed=seed)
    captions = [item.texts[0] for item in items]
    things = [caption.split(" a ")[0] for caption in captions]
    texts = []
    for i, caption in enumerate(captions):
        wrong = [other for other in things[i + 1 :] + things[:i] if other.removeprefix("a ") not in caption]
        others = captions[i + 1 :] + captions[:i]
        foreign = [other for other in others if other != caption]
        fragment = " ".join(caption.split()[:3])
        texts.append(
            [
                caption,
                "",
                "a",
                "a photo",
                "a dog on a sofa",
                fragment,
                " ".join(wrong[0].split()[:3]),
                f"{foreign[0]} and {foreign[1]}",
                foreign[2],
            ]
        )
    return [item.images[0] for item in items], texts


def measured(scorer: Scorer, split: str, seed: int, n: int, shown: int) -> dict[str, NDArray[np.float64]]:
    """Scores at every step: of kinds ``[shown, 1 + kinds, steps]``, of pairs ``[subsets × n, 2, 2, steps]``."""
    images, texts = pictures(split, seed, shown)
    flat = [text for row in texts for text in row]
    width = len(texts[0])
    pairs = [(i, i * width + j) for i in range(len(images)) for j in range(width)]
    kinds = scorer.score_pairs(images, flat, pairs, per_step=True)
    found = []
    for subset in SUBSETS:
        items = load_dataset("shapes", split=split, subset=subset, n=n, seed=seed)
        images = [image for item in items for image in item.images]
        flat = [text for item in items for text in item.texts]
        pairs = [(2 * k + i, 2 * k + j) for k in range(n) for i in (0, 1) for j in (0, 1)]
        scores = scorer.score_pairs(images, flat, pairs, per_step=True)
        found.append(scores.reshape(n, 2, 2, -1))
    return {"kinds": kinds.reshape(shown, width, -1), "pairs": np.concatenate(found)}


def kinds_won(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which texts the right caption is above, ``[n, kinds]``, for ``[n, 1 + kinds]``."""
    return scores[:, :1] > scores[:, 1:]


def pairs_won(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the four comparisons of an item are won, ``[items, 4]``, for ``[items, 2, 2]``."""
    (a, b), (c, d) = scores[:, 0].T, scores[:, 1].T
    return np.stack([a > c, d > b, a > b, d > c], axis=1)


def row(name: str, kinds: NDArray[np.float64], pairs: NDArray[np.float64]) -> dict[str, Any]:
    """The shares of one score, percent; each subset's mean with its interval."""
    won, right = kinds_won(kinds), pairs_won(pairs)
    by_subset = np.split(right, len(SUBSETS))
    found: dict[str, Any] = {"score": name}
    shares = {**dict(zip(KINDS, won.T, strict=True)), **dict(zip(SUBSETS, by_subset, strict=True))}
    for head, share in shares.items():
        # items are counted, not comparisons: those of one item are not independent
        found[head] = [100 * x for x in (float(share.mean()), *wilson(float(share.mean()), len(share)))]
    found["pairs"] = 100 * float(right.mean())
    found["worst"] = min(found[head][0] for head in shares)
    return found


def chosen(levels: list[int], steps: int) -> list[int]:
    """Places in the grid of `steps` levels that are as evenly spaced as the grid allows."""
    return [levels[round(i)] for i in np.linspace(0, len(levels) - 1, steps)]


def candidates(parts: dict[str, dict[str, NDArray[np.float64]]]) -> list[dict[str, Any]]:
    """A row for every score, range of the grid and number of steps."""
    rows = []
    for first, last in itertools.combinations(range(len(GRID)), 2):
        levels = list(range(first, last + 1))
        for steps in (4, 8):
            if steps > len(levels):
                continue
            at = chosen(levels, steps)
            label = f"[{GRID[last]:.2f}, {GRID[first]:.2f}] × {steps}"

            def mean(part: str, what: str, at: list[int] = at) -> NDArray[np.float64]:
                return np.asarray(parts[part][what][..., at].mean(-1))

            for name in parts:
                rows.append(row(f"{name} {label}", mean(name, "kinds"), mean(name, "pairs")))
            for name, weight in (("release", 1.0), ("release", 0.1), ("attention", 1.0)):
                sums = [mean(name, what) + weight * mean("norm", what) for what in ("kinds", "pairs")]
                rows.append(row(f"{name} + {weight:g} norm {label}", *sums))
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    heads = [*KINDS, *SUBSETS, "pairs", "worst"]
    lines = ["| score | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lines += [
        f"| {found['score']} | " + " | ".join(cell(found[head]) for head in heads) + " |" for found in rows
    ]
    return "\n".join(lines)


def cell(share: float | list[float]) -> str:
    return "{:.1f} ({:.1f}–{:.1f})".format(*share) if isinstance(share, list) else f"{share:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=60, help="items a subset")
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--split", default="eval")
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--top", type=int, default=20, help="rows shown, the best first")
    parser.add_argument("--only", nargs="*", help="configurations as JSON, measured as they are: no search")
    parser.add_argument("-o", "--output", type=Path, help="all rows as JSON")
    arguments = parser.parse_args()
    scorer = Scorer()
    where = (arguments.split, arguments.seed, arguments.n, arguments.pictures)
    if arguments.only is not None:
        rows = []
        for text in arguments.only or ["{}"]:
            found = measured(scorer.with_config(**{"config": "default", **json.loads(text)}), *where)
            rows.append(row(text, found["kinds"].mean(-1), found["pairs"].mean(-1)))
    else:
        parts = {
            name: measured(
                scorer.with_config(**{"config": "default", **how}, noise_levels=list(GRID)), *where
            )
            for name, how in PARTS.items()
        }
        rows = sorted(candidates(parts), key=lambda found: (-found["worst"], -found["pairs"]))
    if arguments.output:
        arguments.output.write_text(
            json.dumps({"arguments": vars(arguments) | {"output": None}, "rows": rows}, indent=1)
        )
    print(table(rows[: arguments.top]))


if __name__ == "__main__":
    main()
