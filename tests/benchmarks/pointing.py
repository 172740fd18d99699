"""Whether the maps of words point at what the words name: `python -m tests.benchmarks.pointing`.

The scenes of the dataset shapes come with a box for each of their two things, and their captions name both ("a red
circle left of a blue square"). For each thing the map of its two words is brought to the image, as `Scorer.explain`
does it. Two figures:

- pointing: the share of things whose map is highest inside their box;
- IoU: of the box with the pixels where the map, brought to 0 to 1, is above a threshold; the mean over things.

`--select` measures kinds of maps, layers, noise levels and ways to bring them to scale on the split eval, where the
threshold is chosen too; the defaults of `Scorer.explain` are the best of it. Without, the defaults and some others are
measured on the split test, which nothing was chosen on. Intervals are 95 %, by bootstrap over scenes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from discffusion import Scorer, load_dataset
from discffusion.evaluation.intervals import bootstrap
from discffusion.explanation.grid import on_grid, on_image
from discffusion.explanation.words import find, tokens_of, words_of

KINDS = ("probs", "logits", "cosine")
#: every other one of those the preset attention reads, and some beyond
SCORED = (0.65, 0.57, 0.49, 0.41, 0.33)
LEVELS = (0.81, *SCORED, 0.13)
RANGES = {
    "0.65 to 0.33 (as the score's)": SCORED,
    "0.65 to 0.49": SCORED[:3],
    "0.49 to 0.33": SCORED[2:],
    "0.81": (0.81,),
    "0.13": (0.13,),
    "0.81 to 0.13": LEVELS,
}
SCALES = ("unit", "contrast")
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)


class Thing(NamedTuple):
    """A thing of a scene: its name, which of that name in the caption, and its box (x, y, width, height, pixels)."""

    name: str
    nth: int
    box: tuple[float, float, float, float]


class Case(NamedTuple):
    image: Any
    text: str
    things: tuple[Thing, ...]


def cases(split: str, n: int) -> Iterator[Case]:
    """The first picture of each item with its caption and its things."""
    for item in load_dataset("shapes", split=split, n=n, seed=31):
        names = [name for name, *_ in item.meta["boxes"][0]]
        things = [
            Thing(name, names[:place].count(name), tuple(box))
            for place, (name, *box) in enumerate(item.meta["boxes"][0])
        ]
        yield Case(item.images[0], item.meta["captions"][0], tuple(things))


def mask(box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """bool ``[H, W]``: the pixels whose middles lie in the box."""
    x, y, width, height = box
    rows, columns = np.arange(size[0])[:, None] + 0.5, np.arange(size[1])[None, :] + 0.5
    return (rows >= y) & (rows <= y + height) & (columns >= x) & (columns <= x + width)


def judged(values: np.ndarray, box: Sequence[float]) -> tuple[float, list[float]]:
    """Whether a map points into a box, and the IoU at each threshold."""
    inside = mask(box, values.shape)
    hit = float(inside.ravel()[values.argmax()])
    unit = (values - values.min()) / (np.ptp(values) or 1)
    above = [unit > threshold for threshold in THRESHOLDS]
    return hit, [float((inside & each).sum() / (inside | each).sum()) for each in above]


class Score(NamedTuple):
    """Sums over the things of a scene, ``[scenes, 2 + thresholds]``: hits, things, IoU by threshold."""

    sums: np.ndarray

    def pointing(self) -> tuple[float, float, float]:
        return self._interval(0)

    def iou(self, threshold: int) -> tuple[float, float, float]:
        return self._interval(2 + threshold)

    def best_threshold(self) -> int:
        return int(self.sums[:, 2:].sum(axis=0).argmax())

    def _interval(self, column: int) -> tuple[float, float, float]:
        def statistic(sums: np.ndarray) -> np.ndarray:
            return sums[..., column] / sums[..., 1]

        value = float(statistic(self.sums.sum(axis=0)))
        low, high = bootstrap(self.sums, statistic) or (value, value)
        return value, low, high


def measured(of: Callable[[Case], Sequence[np.ndarray]], items: Sequence[Case]) -> Score:
    """`of` gives the maps of a case's things on its image."""
    rows = []
    for case in items:
        found = [judged(values, thing.box) for values, thing in zip(of(case), case.things, strict=True)]
        rows.append([sum(hit for hit, _ in found), len(found), *np.sum([ious for _, ious in found], axis=0)])
    return Score(np.array(rows, dtype=np.float64))


Seen = dict[tuple[str, float, str], np.ndarray]  # (kind, level, site) -> [things, scales, s, s]


def look(scorer: Scorer, case: Case) -> Seen:
    """Maps of a case's things at every layer, level and kind, each by itself and above the mean word's."""
    found: Seen = {}
    for kind in KINDS:
        for level in LEVELS:
            seen = scorer.observe(case.image, case.text, round(level * 1000), map=kind, prediction=False)
            tokens = tokens_of(case.text, seen.tokens)
            words = words_of(case.text, tokens)
            own = list(seen.tokens.content)
            for site, maps in seen.maps.items():
                side = round(maps.shape[1] ** 0.5)
                mean = maps.mean(axis=0).T.reshape(-1, side, side)
                things = [
                    mean[list(find(t.name, _nth(case, t), words, tokens)[1])].mean(axis=0)
                    for t in case.things
                ]
                found[kind, level, site] = np.stack([[of, of - mean[own].mean(axis=0)] for of in things])
    return found


def _nth(case: Case, thing: Thing) -> int | None:
    return thing.nth if sum(other.name == thing.name for other in case.things) > 1 else None


def select(scorer: Scorer, items: Sequence[Case]) -> None:
    """The table on the split eval, best first."""
    sites = [site["name"] for site in scorer.info()["layers"]]
    chosen = {site: [site] for site in sites}
    chosen |= {"all": sites, **{f"last({n})": sites[-n:] for n in range(2, len(sites))}}
    chosen |= {stage: [s for s in sites if s.startswith(stage)] for stage in ("down", "up")}
    chosen = {name: of for name, of in chosen.items() if of}
    seen = {id(case): look(scorer, case) for case in items}
    rows = []
    for kind in KINDS:
        for name, of_sites in chosen.items():
            for span, levels in RANGES.items():
                for place, scale in enumerate(SCALES):

                    def maps(case: Case, key: Any = (kind, of_sites, levels, place)) -> list[np.ndarray]:
                        kind, of_sites, levels, place = key
                        found = [
                            np.mean([seen[id(case)][kind, level, site][:, place] for level in levels], axis=0)
                            for site in of_sites
                        ]
                        side = max(each.shape[-1] for each in found)
                        mean = np.mean([on_grid(each, side) for each in found], axis=0)
                        width, height = case.image.size
                        return list(on_image(mean, (height, width), (0, 0, width, height)))

                    rows.append((kind, name, span, scale, measured(maps, items)))
    rows.sort(key=lambda row: -row[-1].pointing()[0])
    print(
        "| map | layers | noise levels | scale | pointing % | IoU % | threshold |\n|---|---|---|---|---|---|---|"
    )
    for kind, name, span, scale, score in rows:
        best = score.best_threshold()
        print(
            f"| {kind} | {name} | {span} | {scale} | {_percent(score.pointing())} | {_percent(score.iou(best))} | "
            f"{THRESHOLDS[best]} |"
        )


def report(scorer: Scorer, items: Sequence[Case], threshold: float) -> None:
    """The table on the split test, with what `Scorer.explain` shows."""
    at = THRESHOLDS.index(threshold)
    shares = [mask(thing.box, case.image.size[::-1]).mean() for case in items for thing in case.things]
    print(f"{len(items)} scenes, {len(shares)} things; a box is {100 * np.mean(shares):.1f} % of the image\n")
    print(f"| shown | pointing % | IoU % at {threshold} |\n|---|---|---|")
    shown: dict[str, dict[str, Any]] = {
        "default": {},
        **{f"{kind}, all layers": {"map": kind, "sites": "all"} for kind in KINDS},
    }
    for name, options in shown.items():
        explained = {id(case): scorer.explain(case.image, case.text, **options) for case in items}
        for scale in SCALES:

            def maps(case: Case, explained: Any = explained, scale: Any = scale) -> list[np.ndarray]:
                found = explained[id(case)]
                return [found.map_of(t.name, _nth(case, t), normalise=scale) for t in case.things]

            score = measured(maps, items)
            print(
                f"| {name}, {scale} | {_percent(score.pointing())} | {_percent(score.iou(at))} |", flush=True
            )


def _percent(found: tuple[float, float, float]) -> str:
    value, low, high = (100 * each for each in found)
    return f"{value:.1f} ({low:.1f}–{high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--select", action="store_true", help="compare options on the split eval")
    parser.add_argument("--n", type=int, help="scenes; 200 of test, 100 of eval")
    parser.add_argument("--threshold", type=float, choices=THRESHOLDS, default=0.5)
    arguments = parser.parse_args()
    scorer = Scorer(device="cpu", config="attention")
    if arguments.select:
        select(scorer, list(cases("eval", arguments.n or 100)))
    else:
        report(scorer, list(cases("test", arguments.n or 200)), arguments.threshold)


if __name__ == "__main__":
    main()
