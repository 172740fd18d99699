"""Items, records and rows made up for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from discffusion.data.item import MatchItem
from discffusion.evaluation.record import Record
from discffusion.reproduce.columns import COMPOSITION
from discffusion.reproduce.result import Cell, Row
from discffusion.reproduce.scale import QUICK, Scale

#: as little as there can be of everything
TINY: Scale = replace(
    QUICK,
    name="tiny",
    items={"composition": 1, "referring": 2, "vqa": 2, "winoground": 3},
    shots={"few": 6, "extreme": 3, "captions": 8},
    epochs={"few": 1, "extreme": 1, "captions": 1},
    paper_steps=2,
    denoising_steps=2,
    curve=(1, 2),
    maps=3,
    generated_images=3,
)
ALL = next(column for column in COMPOSITION if column.name == "All")


def item(key: str, group: str | None = None, images: Sequence[str] = ("a",), texts: int = 1) -> MatchItem:
    match = np.zeros((len(images), texts), bool)
    match[0, 0] = True
    return MatchItem(
        key, list(images), [f"text {k}" for k in range(texts)], match, group, {"images": list(images)}
    )


def record(key: str, right: bool, group: str | None = None, **meta: Any) -> Record:
    """One image with a true and a false text, and an image of its own."""
    scores = np.array([[1.0, 0.0] if right else [0.0, 1.0]])
    return Record(
        key, scores, np.array([[True, False]]), group, (f"image of {key}",), ("true", "false"), meta
    )


def row(
    label: str, right: Mapping[int, Sequence[bool]] | Sequence[bool], variant: str = "", name: str = "All"
) -> Row:
    """A measured row of items of which these are right, by seed."""
    by_seed = right if isinstance(right, Mapping) else {0: right}
    records = {seed: [record(str(k), ok) for k, ok in enumerate(of)] for seed, of in by_seed.items()}
    cell = Cell(
        ALL.measure(next(iter(records.values()))), tuple(float(np.mean(of)) for of in by_seed.values())
    )
    return Row(label, variant, {name: cell}, {name: records}, {}, tuple(by_seed), 1.0)
