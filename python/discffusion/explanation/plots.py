"""Pictures of an explanation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from discffusion.explanation.grid import DEFAULT_NORMALISE, Normalise
from discffusion.plot.figure import COLOURS, new_figure
from discffusion.plot.heat import heat
from discffusion.plot.overlay import overlay as draw_over

if TYPE_CHECKING:
    from discffusion.explanation.explanation import Explanation

__all__ = ["layers", "overlay", "overview", "words"]

#: maps in a row of the overview's grid of words
_COLUMNS = 5
#: as many words are shown in the overview, those that add most
_MOST = 9


def overlay(
    explanation: Explanation, word: Any, nth: int | None, normalise: Normalise | None, **where: Any
) -> Any:
    """The image with the map of a word over it, and a colour bar."""
    values = explanation.map_of(word, nth, normalise=normalise, **{**where, "fill": math.nan})
    name, _ = explanation._find(word, nth)
    figure = new_figure((5.0, 4.2))
    axes = figure.subplots()
    drawn = draw_over(axes, explanation.image, values, name)
    at = "".join(f", {key} {value}" for key, value in where.items() if value is not None)
    figure.colorbar(drawn, ax=axes, label=f"{_scale_name(explanation, normalise)}{at}")
    return figure


def words(explanation: Explanation, columns: int, normalise: Normalise | None) -> Any:
    """The image, and the map of every word with what it adds to the score."""
    places = [place for place, word in enumerate(explanation.words) if word.tokens]
    columns = min(columns, len(places) + 1)
    rows = -(-(len(places) + 1) // columns)
    figure = new_figure((1.7 * columns + 0.8, _row_height(explanation) * rows + 0.3))
    _word_grid(figure, explanation, places, rows, columns, normalise)
    return figure


def layers(explanation: Explanation) -> Any:
    """What layers add at each timestep, and what their heads add in all."""
    count = len(explanation.contributions) + 1
    figure = new_figure((9.0, 1.8 + 0.25 * count))
    _heat_maps(figure, explanation)
    return figure


def overview(explanation: Explanation) -> Any:
    """The words that add most to the score, what all tokens add, and what layers, timesteps and heads add."""
    places = [place for place, word in enumerate(explanation.words) if word.tokens]
    sizes = np.abs(explanation.per_word)
    if len(places) > _MOST:
        places = sorted(sorted(places, key=lambda place: -sizes[place])[:_MOST])
    rows = -(-(len(places) + 1) // _COLUMNS)
    heats = 1.6 + 0.22 * (len(explanation.contributions) + 1)
    bars = 2.4
    grid = _row_height(explanation) * rows
    figure = new_figure((9.5, grid + bars + heats + 0.6))
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[grid, bars, heats])
    _word_grid(top, explanation, places, rows, _COLUMNS, DEFAULT_NORMALISE)
    _bars(middle.subplots(), explanation)
    _heat_maps(bottom, explanation)
    figure.suptitle(_shorten(f"{explanation.text}: {explanation.score:.4g}", 110), fontsize=10)
    return figure


def _word_grid(
    figure: Any,
    explanation: Explanation,
    places: list[int],
    rows: int,
    columns: int,
    normalise: Normalise | None,
) -> None:
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = grid.ravel()
    draw_over(axes[0], explanation.image, None, "image")
    drawn = None
    maps = [explanation.map_of(place, normalise=normalise, fill=math.nan) for place in places]
    limits = None
    if maps and normalise is None:
        limits = (min(float(np.nanmin(of)) for of in maps), max(float(np.nanmax(of)) for of in maps))
    for axis, place, values in zip(axes[1:], places, maps, strict=False):
        title = f"{_shorten(explanation.words[place].text, 16)}\n{explanation.per_word[place]:+.3g}"
        drawn = draw_over(axis, explanation.image, values, title, limits=limits)
    for axis in axes:
        axis.set_axis_off()
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=grid, shrink=0.8)
        bar.set_label(_scale_name(explanation, normalise), fontsize=7)
        bar.ax.tick_params(labelsize=7)


def _row_height(explanation: Explanation) -> float:
    """Of the grid of words, inches: a plot of the image's ratio, within reason, and two lines above it."""
    height, width = explanation.image.shape[:2]
    return 1.7 * min(max(float(height / width), 0.3), 2.0) + 0.45


def _bars(axes: Any, explanation: Explanation) -> None:
    """What each word adds, with what belongs to no word."""
    labels, values, colours = [], [], []
    tokens = list(zip(explanation.tokens, explanation.per_token, strict=True))
    entries = [(token.text, float(value), COLOURS[5]) for token, value in tokens if token.kind == "bos"]
    entries += [
        (word.text, float(value), COLOURS[0])
        for word, value in zip(explanation.words, explanation.per_word, strict=True)
        if word.tokens
    ]
    entries += [
        (token.text, float(value), COLOURS[5]) for token, value in tokens if token.kind in ("eos", "padding")
    ]
    if explanation.denoising_per_timestep.any():
        entries.append(("denoising", explanation.denoising, COLOURS[1]))
    if explanation.prior_per_timestep.any():
        entries.append(("prior", explanation.prior, COLOURS[1]))
    for label, value, colour in entries:
        labels.append(_shorten(label, 16))
        values.append(value)
        colours.append(colour)
    axes.bar(range(len(values)), values, color=colours)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xticks(range(len(labels)), labels, rotation=90 if len(labels) > 12 else 30, fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_ylabel("adds to the score", fontsize=8)


def _heat_maps(figure: Any, explanation: Explanation) -> None:
    times = [str(timestep) for timestep in explanation.timesteps]
    rows = {name: of_layer.sum(axis=(1, 2)) for name, of_layer in explanation.contributions.items()}
    if explanation.denoising_per_timestep.any():
        rows["denoising"] = explanation.denoising_per_timestep
    if explanation.prior_per_timestep.any():
        rows["prior"] = explanation.prior_per_timestep
    heads = explanation.per_head
    if not heads:
        axes = figure.subplots()
        heat(axes, np.stack(list(rows.values())), list(rows), times, "timestep", "adds to the score")
        return
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    heat(
        left,
        np.stack(list(rows.values())),
        list(rows),
        times,
        "timestep",
        "layers by timestep: adds to the score",
    )
    most = max(len(values) for values in heads.values())
    table = np.full((len(heads), most), np.nan)
    for row, values in zip(table, heads.values(), strict=True):
        row[: len(values)] = values
    heat(right, table, list(heads), [str(head) for head in range(most)], "head", "heads: adds to the score")


def _scale_name(explanation: Explanation, normalise: Normalise | None) -> str:
    if normalise is None:
        return {
            "probs": "attention probability",
            "logits": "attention logit",
            "cosine": "cosine",
            "text_probs": "attention probability among the text",
        }[explanation.map]
    return {
        "unit": f"{explanation.map}, low to high",
        "contrast": f"{explanation.map} above the mean word's",
    }[normalise]


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
