"""Test items of the dataset shapes, values of scores on them with 95 % intervals, and tables: for `meaning`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from discffusion import Scorer, evaluate, load_dataset
from discffusion._markdown import table
from discffusion.calibration import Observations, observe, reliability
from discffusion.calibration.run import baseline, levels_of
from discffusion.data.item import MatchItem
from discffusion.evaluation import Comparison, Estimate, Record
from discffusion.evaluation.intervals import of_groups, resampled
from discffusion.evaluation.record import clusters_of
from discffusion.reproduce.claims import pooled, same_seeds
from discffusion.reproduce.columns import Column

#: minimal pairs
SUBSETS = ("subject", "object", "attribute", "predicate")
#: records of one score by test set, by the draw of labels that it was made with
Scored = Mapping[str, Mapping[int, list[Record]]]


def held_out_items(names: Sequence[str], n: int, seed: int) -> dict[str, list[MatchItem]]:
    """Items of the split test, `n` a subset; ``"pairs"`` are the minimal pairs of four subsets."""
    return {
        name: [
            item
            for subset in (SUBSETS if name == "pairs" else (name,))
            for item in load_dataset("shapes", split="test", subset=subset, n=n, seed=seed)
        ]
        for name in names
    }


def labelled(kind: str, n: int, seed: int) -> list[MatchItem]:
    """Items of the split train: minimal pairs alone, or with them, in turn, items of mixed and referring."""
    subsets = {"pairs": (None,), "all": (None, "mixed", "referring")}[kind]
    drawn = [
        load_dataset("shapes", split="train", subset=subset, n=n, seed=1000 + seed) for subset in subsets
    ]
    return [drawn[k % len(drawn)][k // len(drawn)] for k in range(n)]


def by_image(records: Sequence[Record]) -> list[Record]:
    """A record for every image, with its texts alone."""
    return [
        replace(
            record,
            key=f"{record.key}/{i}",
            scores=record.scores[i : i + 1],
            match=record.match[i : i + 1],
            images=record.images[i : i + 1],
            probabilities=None,  # no column is of them
        )
        for record in records
        for i in range(len(record.scores))
    ]


COLUMNS = (
    *(Column(name, "pairs", groups=(name,)) for name in SUBSETS),
    Column("pairs", "pairs"),
    Column("text choice", "pairs", view=by_image),
    Column("mixed", "mixed", "kinds"),
    Column("referring", "referring", "acc@1"),
    Column("vqa", "vqa", "acc@1"),
    Column("winoground", "winoground", "winoground", "group"),
)
BY_NAME = {column.name: column for column in COLUMNS}
#: the text alone says nothing of images, which all tie
BLIND = tuple(replace(column, view=by_image) if column.place == "pairs" else column for column in COLUMNS)


def scored(scorer: Any, sets: Mapping[str, Sequence[MatchItem]], draw: int = 0) -> dict[str, Any]:
    """Every image with every text of its item."""
    return {
        name: {draw: evaluate(scorer, items, "accuracy", progress=False).records}
        for name, items in sets.items()
    }


def merged(draws: Sequence[Scored]) -> dict[str, dict[int, list[Record]]]:
    """Scores of several draws of labels together."""
    return {name: {draw: of for each in draws for draw, of in each[name].items()} for name in draws[0]}


def blind(scorer: Scorer, sets: Mapping[str, Sequence[MatchItem]]) -> dict[str, Any]:
    """What each text scores without an image."""
    texts = list(dict.fromkeys(text for items in sets.values() for item in items for text in item.texts))
    alone = dict(zip(texts, scorer.blind(texts, progress=False), strict=True))
    return from_scores(sets, lambda item: np.array([[alone[text] for text in item.texts]] * len(item.images)))


def from_scores(
    sets: Mapping[str, Sequence[MatchItem]], scores: Callable[[MatchItem], Any], draw: int = 0
) -> dict[str, Any]:
    return {name: {draw: [Record.of(item, scores(item)) for item in items]} for name, items in sets.items()}


def less(records: Scored, blind: Scored, weight: float) -> dict[str, Any]:
    """Scores less so much of what the text scores alone: with ``prior="null"`` at this weight."""
    found: dict[str, Any] = {}
    for name, by_draw in records.items():
        alone = {record.key: record.scores for record in blind[name][0]}
        found[name] = {
            draw: [
                replace(record, scores=record.scores - weight * alone[record.key], probabilities=None)
                for record in of
            ]
            for draw, of in by_draw.items()
        }
    return found


class Observed:
    """What was observed of all test items: from it come scores of any weights, without the network."""

    def __init__(
        self, base: Scorer, sets: Mapping[str, Sequence[MatchItem]], calibrations: Sequence[Any] = ()
    ) -> None:
        self.base, self.sets = base, sets
        # what texts have without an image takes long, and often no weights need it
        prior = any(made.weights is not None and made.weights.prior_weight for made in calibrations)
        self._numbers: dict[str, Observations] = {
            name: observe(base, items, levels=levels_of(base), prior=prior, progress=False)
            for name, items in sets.items()
        }

    def scores(self, calibration: Any = None, draw: int = 0) -> dict[str, Any]:
        """Records of the score of a calibration, or of the base as it is."""
        weights = None if calibration is None else calibration.weights
        found: dict[str, Any] = {}
        for name, items in self.sets.items():
            numbers = self._numbers[name]
            flat = (weights or baseline(self.base.config, numbers)).score(numbers)
            parts = np.split(flat, np.cumsum([item.match.size for item in items])[:-1])
            found[name] = {
                draw: [
                    Record.of(item, part.reshape(item.match.shape))
                    for item, part in zip(items, parts, strict=True)
                ]
            }
        self._check(calibration, found, draw)
        return found

    def _check(self, calibration: Any, found: Scored, draw: int) -> None:
        """Some of these scores are what the scorer itself says."""
        scorer = self.base if calibration is None else self.base.with_calibration(calibration)
        for name, items in self.sets.items():
            itself = scorer.matrix(items[0].images, items[0].texts, progress=False)
            np.testing.assert_allclose(found[name][draw][0].scores, itself, rtol=1e-4, atol=1e-5)


def values(records: Scored, columns: Sequence[Column] = COLUMNS) -> dict[str, Any]:
    """By column, the value over all draws, its interval and the values of single draws."""
    found: dict[str, Any] = {}
    for column in columns:
        if column.place not in records:
            continue
        by_draw = {draw: column.select(of) for draw, of in records[column.place].items()}
        each = [column.measure(of).value for of in by_draw.values()]
        found[column.name] = {**column.measure(pooled(by_draw)).to_dict(), "draws": each}
    return found


def difference(better: Scored, worse: Scored, name: str) -> Comparison:
    """A paired test by a column of the table, item by item and draw by draw."""
    column = BY_NAME[name]
    one, other = (
        {draw: column.select(records) for draw, records in of[column.place].items()} for of in (better, worse)
    )
    return column.compare(*same_seeds(one, other))


def of_probabilities(calibrations: Mapping[int, Any], by_draw: Mapping[int, list[Record]]) -> dict[str, Any]:
    """Calibration error, Brier score and share of matches of the probabilities of all pairs, as :func:`values`."""
    p, draws = [], {}
    records = [record for draw in by_draw for record in by_draw[draw]]
    for draw, of in by_draw.items():
        scores, match = (
            np.concatenate([getattr(r, name).ravel() for r in of]) for name in ("scores", "match")
        )
        own = calibrations[draw].probability(scores)
        p.append(own)
        draws[draw] = reliability(own, match)
    together = np.concatenate(p)
    match = np.concatenate([record.match.ravel() for record in records])
    sizes = [record.match.size for record in records]
    group = np.repeat(clusters_of(pooled(by_draw)), sizes)
    groups, bins = int(group.max()) + 1, 10
    part = np.minimum((together * bins).astype(np.intp), bins - 1)
    error = np.bincount(group * bins + part, together - match, groups * bins).reshape(groups, bins)
    count = np.bincount(group, minlength=groups).astype(np.float64)[:, None]
    squared = np.bincount(group, (together - match) ** 2, groups)[:, None]
    whole = reliability(together, match)
    # noise only ever adds to a sum of absolute values, so it is measured around that of the bins
    sums = np.concatenate([error, count], axis=1)
    own_bins = error.sum(0) / count.sum()
    noise = np.concatenate([np.abs(s[:, :-1] / s[:, -1:] - own_bins).sum(axis=1) for s in resampled(sums)])
    reach = float(np.quantile(noise, 0.95))
    brier = of_groups(np.concatenate([squared, count], axis=1), lambda s: s[..., 0] / s[..., 1])
    low, high = (whole.brier, whole.brier) if brier is None else brier[:2]

    def entry(name: str, value: float, low: float, high: float) -> dict[str, Any]:
        made = Estimate(value, low, high, len(together), 0, "bootstrap", groups)
        return {**made.to_dict(), "draws": [getattr(of, name) for of in draws.values()]}

    return {
        "ECE": entry("ece", whole.ece, max(0.0, whole.ece - reach), min(1.0, whole.ece + reach)),
        "Brier": entry("brier", whole.brier, low, high),
        "matches": float(match.mean()),
        "said": float(together.mean()),
    }


def show(title: str, rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """A table of rows with the same names of columns, in percent; or a line of JSON with fractions."""
    if as_json:
        print(json.dumps({"table": title, "rows": rows}), flush=True)
        return
    head = list(dict.fromkeys(name for row in rows for name in row))
    lines = [[_cell(row.get(name, "")) for name in head] for row in rows]
    print(f"\n{title}\n\n{table(head, lines, padded=False)}", flush=True)


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        text = "{value:.1f} ({low:.1f}–{high:.1f})".format(
            **{name: 100 * value[name] for name in ("value", "low", "high")}
        )
        draws = [100 * each for each in value["draws"]]
        return f"{text} [{min(draws):.1f} to {max(draws):.1f}]" if len(draws) > 1 else text
    return f"{value:.3g}" if isinstance(value, float) else str(value)
