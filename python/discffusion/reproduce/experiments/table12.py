"""Table 12: what tuning does to generation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from discffusion.evaluation.record import Record
from discffusion.reproduce.claims import Close, pooled
from discffusion.reproduce.columns import Column
from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.generated_images import ASPECTS, STEPS, Asked, asked, generated_images, judged
from discffusion.reproduce.paper_table import PaperTable
from discffusion.reproduce.result import Cell, Result, Row
from discffusion.reproduce.runner import ExperimentRunner
from discffusion.reproduce.trainings import FEW

__all__ = ["EXPERIMENT"]

PLACE = "composition"
PRINTED = PaperTable(
    ("MS-COCO: FID", "MS-COCO: IS", "ComVG: FID", "ComVG: IS"),
    {"Stable Diffusion": (23.3, 19.7, 26.9, 17.5), "Discffusion": (24.1, 19.5, 26.0, 18.1)},
    unit="FID (lower is better) and inception score (IS); shapes: images that show what was asked for, in percent "
    "with 95 % intervals; s: seconds that generating and judging the row took.",
)
COLUMNS = tuple(Column(f"shapes: {aspect}", PLACE) for aspect in ASPECTS)
#: "as good as before": within so much
NEAR = 0.05
CLAIM = Close(
    f"Few-shot tuning leaves generation about as good as it was (both things shown, within {100 * NEAR:g} points)",
    "Discffusion",
    "Stable Diffusion",
    NEAR,
    "shapes: both",
)
LACKS = (
    "FID and inception score need images of the dataset and an Inception network, whose weights do not come with the "
    "package; `discffusion generate` makes the images"
)


def _row(
    label: str, seeds: tuple[int, ...], about: str, make: Callable[[int], dict[str, list[Record]]]
) -> Row:
    start = time.perf_counter()
    by_seed = {seed: make(seed) for seed in seeds}
    records, cells = {}, {}
    for aspect, column in zip(ASPECTS, COLUMNS, strict=True):
        records[column.name] = {seed: of_seed[aspect] for seed, of_seed in by_seed.items()}
        each = tuple(column.measure(of_seed[aspect]).value for of_seed in by_seed.values())
        cells[column.name] = Cell(column.measure(pooled(records[column.name])), each)
    lacking = dict.fromkeys(PRINTED.columns, LACKS)
    return Row(label, "", cells, records, lacking, seeds, time.perf_counter() - start, about)


def run(runner: ExperimentRunner) -> Result:
    result = Result(EXPERIMENT.name, EXPERIMENT.title, PRINTED, PRINTED.columns)
    result.differences = runner.differences([PLACE])
    if PLACE not in runner.sources or runner.sources[PLACE].name != "shapes":
        result.gap = LACKS
        result.notes.append(
            "Not measured on these data: what an image shows is judged for drawn scenes (shapes) alone."
        )
        return result
    wanted: list[Asked] = asked(runner.sources[PLACE].test(), runner.scale.generated_images)

    def generated(tuned: bool) -> Callable[[int], dict[str, list[Record]]]:
        def make(seed: int) -> dict[str, list[Record]]:
            deltas: Any = runner.trained(FEW, PLACE, seed).deltas if tuned else None
            return judged(wanted, generated_images(runner.scorer(deltas=deltas), wanted, seed))

        return make

    for label, about, tuned in (
        ("Stable Diffusion", "no deltas", False),
        ("Discffusion", f"deltas of {FEW.name}", True),
    ):
        runner.say(f"{EXPERIMENT.name}: {label}")
        result.rows.append(_row(label, runner.seeds, about, generated(tuned)))
    drawn = [each.drawing for each in wanted]
    result.rows.append(_row("the drawings themselves", (0,), "judged", lambda _: judged(wanted, drawn)))
    result.columns = (*PRINTED.columns, *(column.name for column in COLUMNS))
    result.verdicts += CLAIM(result.rows, {column.name: column for column in COLUMNS})
    result.notes.append(
        f"{len(wanted)} captions of test scenes a seed, an image each: DDIM, {STEPS} steps, guidance 7.5, the same "
        "noise in both rows. A judge without a network reads colours and outlines; how often it recognises the "
        "drawings themselves is the most that a row can reach. It does not see two things of one colour that touch."
    )
    return result


EXPERIMENT = Experiment(
    "table12",
    "Text-to-image generation after few-shot tuning",
    "MS-COCO, Compositional Visual Genome; DDIM, 50 steps",
    PRINTED,
    run,
    partly="no FID and no inception score, which need images of the dataset and an Inception network",
)
