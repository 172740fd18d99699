"""Figure 10: an example that is lost, with the maps of its words, beside one that is won; zero-shot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from discffusion.evaluation.record import Record
from discffusion.explanation import DEFAULT_NORMALISE
from discffusion.plot.figure import save_png
from discffusion.plot.overlay import overlay
from discffusion.reproduce.columns import Column
from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.methods import ours
from discffusion.reproduce.result import FAILS, HOLDS, NOT_MEASURED, UNDECIDED, Cell, Result, Row, Verdict
from discffusion.reproduce.runner import ExperimentRunner

if TYPE_CHECKING:
    from discffusion.explanation import Explanation

__all__ = ["EXPERIMENT", "is_won", "points"]

PLACE = "winoground"
#: of the words that name a thing
COLUMN = Column("pointing", PLACE)
#: words shown of an example
WORDS = 5
CLAIM = "Where an example is lost, the model does not find what a word names"


def is_won(record: Record) -> bool:
    """Whether every match scores higher than everything else in its row and column."""
    scores = np.where(record.match, -np.inf, record.scores)
    others = np.maximum(scores.max(axis=0, keepdims=True), scores.max(axis=1, keepdims=True))
    return bool((record.scores > others)[record.match].all())


def points(scorer: Any, item: Any) -> list[Record]:
    """By thing of each image, whether the map of the words that name it is highest within its box."""
    records = []
    for index, image in enumerate(item.images):
        text = item.meta["captions"][index]
        explained = scorer.explain(image, text, progress=False)
        boxes = item.meta["boxes"][index]
        names = [name for name, *_ in boxes]
        for place, (name, x, y, width, height) in enumerate(boxes):
            nth = names[:place].count(name) if names.count(name) > 1 else None
            row, column = explained.peak(name, nth, normalise=DEFAULT_NORMALISE, fill=math.nan)
            hit = x <= column + 0.5 <= x + width and y <= row + 0.5 <= y + height
            scores = np.array([[1.0, 0.0] if hit else [0.0, 1.0]])
            images = (item.meta["images"][index],)
            records.append(
                Record(f"{item.key}/{index}/{place}", scores, np.array([[True, False]]), images=images)
            )
    return records


def run(runner: ExperimentRunner) -> Result:
    result = Result(EXPERIMENT.name, EXPERIMENT.title, differences=runner.differences([PLACE]))
    if PLACE not in runner.sources:
        result.notes.append("Not measured: no data given (--data winoground=FOLDER).")
        return result
    method = ours("default").method
    assert method is not None
    items, scorer = runner.items(method, PLACE), runner.scorer()
    seed = runner.seeds[0]
    won = {record.key: is_won(record) for record in runner.measure(method, PLACE).by_seed[seed]}
    result.notes.append(
        f"Won: {sum(won.values())} of {len(won)} items (both texts find their image and both images their text). "
        "Maps are those that Scorer.explain shows, before any training. The paper shows one lost image and no figures."
    )
    shown: dict[bool, Any] = {}
    hits: dict[bool, list[Record]] = {True: [], False: []}
    for item in items[: runner.scale.maps]:
        shown.setdefault(won[item.key], item)
        if "boxes" in (item.meta or {}):
            hits[won[item.key]] += points(scorer, item)
    if all(hits.values()):
        _measure(result, hits)
    else:
        why = "the data have no boxes" if not any(hits.values()) else "all items are won, or all are lost"
        result.verdicts.append(Verdict(CLAIM, NOT_MEASURED, why))
    if shown:
        path = runner.folder / "figure10.png"
        examples = [
            (name, explain(scorer, shown[key]))
            for key, name in ((True, "won"), (False, "lost"))
            if key in shown
        ]
        size = (1.7 * (WORDS + 1), 2.1 * len(examples))
        result.plots.append(save_png(path, lambda figure: draw(figure, examples), size))
    return result


def _measure(result: Result, hits: dict[bool, list[Record]]) -> None:
    result.columns = (COLUMN.name,)
    cells = {}
    for key, name in ((True, "won"), (False, "lost")):
        estimate = COLUMN.measure(hits[key])
        cells[key] = estimate
        label = f"things whose words' map is highest in their box, items that are {name}"
        result.rows.append(Row(label, "", {COLUMN.name: Cell(estimate, (estimate.value,))}, seeds=(0,)))
    of_won, of_lost = cells[True], cells[False]
    answer = HOLDS if of_won.low > of_lost.high else FAILS if of_won.high < of_lost.low else UNDECIDED
    result.verdicts.append(Verdict(CLAIM, answer, f"won {of_won}; lost {of_lost}"))


def explain(scorer: Any, item: Any) -> tuple[Explanation, float]:
    """The first image with its own text, and the best score that another text has there."""
    index, column = np.argwhere(item.match)[0]
    image = item.images[index]
    others = [text for place, text in enumerate(item.texts) if place != column]
    best = float(scorer.matrix([image], others).max(initial=-np.inf))
    return scorer.explain(image, item.texts[column], progress=False), best


def draw(figure: Any, examples: list[tuple[str, tuple[Explanation, float]]]) -> None:
    """A row an example: the image with both scores, and the maps of its first longer words."""
    grid = figure.subplots(len(examples), WORDS + 1, squeeze=False)
    for axes, (name, (explained, other)) in zip(grid, examples, strict=True):
        right = explained.score
        overlay(axes[0], explained.image, None, f"{name}: {right:.4f}\nagainst {other:.4f}")
        # little words aside
        long = [place for place, word in enumerate(explained.words) if word.tokens and len(word.text) > 2]
        for axis, place in zip(axes[1:], long, strict=False):
            values = explained.map_of(place, normalise=DEFAULT_NORMALISE, fill=math.nan)
            overlay(axis, explained.image, values, explained.words[place].text)
        for axis in axes:
            axis.set_axis_off()


EXPERIMENT = Experiment(
    "figure10",
    "An example that is lost, beside one that is won, with their maps (the paper shows one, no figures)",
    "one image of Compositional Visual Genome",
    run=run,
)
