"""Figure 9: averaged attention maps of words, before any training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.evaluation.record import Record
from discffusion.observation import Observation
from discffusion.plot.figure import save_png
from discffusion.reproduce.claims import answer, side
from discffusion.reproduce.columns import Column
from discffusion.reproduce.experiment import Experiment
from discffusion.reproduce.result import Cell, Result, Row, Verdict
from discffusion.reproduce.runner import ExperimentRunner

__all__ = ["EXPERIMENT"]

PLACE = "composition"
#: maps are brought to this many rows and columns before they are averaged
SIDE = 64
TIMESTEPS = (300, 450, 600)
#: of a thing's colour and shape words
COLUMN = Column("own box", PLACE)


def word_maps(scorer: Any, image: Any, text: str) -> dict[tuple[int, int], NDArray[np.float64]]:
    """The attention of each token of a text, ``[SIDE, SIDE]`` by its place in the text (start, stop).

    Probabilities, averaged over heads, layers and timesteps.
    """
    total: dict[tuple[int, int], NDArray[np.float64]] = {}
    count = 0
    for timestep in TIMESTEPS:
        seen: Observation = scorer.observe(image, text, timestep, map="probs", prediction=False)
        for layer in seen.maps.values():
            side = round(layer.shape[1] ** 0.5)
            mean = layer.mean(axis=0, dtype=np.float64).reshape(side, side, -1)
            nearest = np.arange(SIDE) * side // SIDE
            count += 1
            for index in seen.tokens.content:
                large = mean[nearest][:, nearest, index]
                key = seen.tokens.offsets[index]
                total[key] = total.get(key, np.zeros((SIDE, SIDE))) + large
    return {key: values / count for key, values in total.items()}


def inside(
    values: NDArray[np.float64], box: tuple[float, float, float, float], size: tuple[int, int]
) -> float:
    """Mean of a map within a box (x, y, width, height in pixels of an image of `size`, width and height)."""
    x, y, width, height = (side * SIDE / size[k % 2] for k, side in enumerate(box))
    rows = slice(max(0, round(y)), max(round(y) + 1, round(y + height)))
    columns = slice(max(0, round(x)), max(round(x) + 1, round(x + width)))
    return float(values[rows, columns].mean())


def pointing(scorer: Any, item: Any) -> list[Record]:
    """Whether the words that name a thing of an image have a higher map in its box than in that of the other thing.

    A record a thing: scores of the two boxes, the first matching.
    """
    records = []
    for index, image in enumerate(item.images):
        text = item.meta["captions"][index]
        (first, *box), (second, *other) = item.meta["boxes"][index]
        if item.meta["relations"][index] in ("inside", "around"):
            continue  # one box holds the other
        maps = word_maps(scorer, image, text)
        for place, (name, own, rival) in enumerate(((first, box, other), (second, other, box))):
            begin = text.index(name) if place == 0 else text.rindex(name)
            words = [
                values
                for (start, stop), values in maps.items()
                if begin <= start and stop <= begin + len(name)
            ]
            values = np.mean(words, axis=0)
            scores = [[inside(values, tuple(box), image.size) for box in (own, rival)]]
            records.append(
                Record(
                    f"{item.key}/{index}/{place}",
                    np.array(scores),
                    np.array([[True, False]]),
                    images=(item.meta["images"][index],),
                )
            )
    return records


def run(runner: ExperimentRunner) -> Result:
    result = Result(EXPERIMENT.name, EXPERIMENT.title, differences=runner.differences([PLACE]))
    if PLACE not in runner.sources:
        result.notes.append("Not measured: no data given (--data comvg=FOLDER).")
        return result
    items, scorer = runner.sources[PLACE].test(), runner.scorer()
    result.notes.append(
        "Maps are attention probabilities, averaged over heads, over all layers and over the timesteps "
        f"{', '.join(map(str, TIMESTEPS))}, before any training. The paper shows one image and no figures."
    )
    if "boxes" in (items[0].meta or {}):
        records = [record for item in items[: runner.scale.maps] for record in pointing(scorer, item)]
        cell = Cell(COLUMN.measure(records), (COLUMN.measure(records).value,))
        result.columns = (COLUMN.name,)
        label = "words whose map is higher in their own box than in the other thing's"
        result.rows.append(Row(label, "", {COLUMN.name: cell}, seeds=(0,)))
        value = cell.estimate
        verdict = answer([side(value.low, value.high, 0.5)])
        result.verdicts.append(
            Verdict("Words attend to the regions that they name", verdict, f"{value}; chance is 50 %")
        )
    else:
        result.notes.append("The data have no boxes, so the maps are shown and not measured.")
    path = runner.folder / "figure9.png"
    result.plots.append(save_png(path, lambda figure: _draw(figure, scorer, items[0]), (9, 3.2)))
    return result


def _draw(figure: Any, scorer: Any, item: Any) -> None:
    from PIL import Image

    index, column = np.argwhere(item.match)[0]
    image, text = item.images[index], item.texts[column]
    if not isinstance(image, Image.Image):
        image = Image.open(image).convert("RGB")
    maps = word_maps(scorer, image, text)
    words = [(text[start:stop], values) for (start, stop), values in maps.items() if stop > start][:9]
    axes = figure.subplots(2, (len(words) + 2) // 2).ravel()
    axes[0].imshow(image)
    axes[0].set_title("image", fontsize=8)
    for axis, (word, values) in zip(axes[1:], words, strict=False):
        axis.imshow(image.resize((SIDE, SIDE)).convert("L"), cmap="gray", alpha=0.6)
        axis.imshow(values, cmap="inferno", alpha=0.6)
        axis.set_title(f"{word} ({values.mean():.3f})", fontsize=8)
    for axis in axes:
        axis.set_axis_off()
    figure.suptitle(text, fontsize=9)


EXPERIMENT = Experiment(
    "figure9",
    "Averaged attention maps of words, zero-shot",
    "one image of Visual Genome",
    run=run,
)
