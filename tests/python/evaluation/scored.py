"""Scored items for tests: built by hand, drawn at random with ties, and one set for every metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from discffusion.evaluation.record import Record

#: scores of a shape [n_images, n_texts] and the number of the item
Scores = Callable[[tuple[int, int], int], Any]


def record(key: str, scores: Any, match: Any, **fields: Any) -> Record:
    """A record of nested lists."""
    return Record(key, np.array(scores, np.float64), np.array(match, bool), **fields)


@st.composite
def random_records(draw: st.DrawFn, shape: tuple[int, int] | None = None) -> list[Record]:
    """One to eight items of any shape up to 4 x 5; few levels of score, so that ties abound."""
    found = []
    for index in range(draw(st.integers(1, 8))):
        images, texts = shape or (draw(st.integers(1, 4)), draw(st.integers(1, 5)))
        cells = images * texts
        levels = draw(st.lists(st.integers(-2, 2), min_size=cells, max_size=cells))
        match = draw(st.lists(st.booleans(), min_size=cells, max_size=cells))
        found.append(
            record(
                f"item{index}",
                np.array(levels).reshape(images, texts) / 3,
                np.array(match).reshape(images, texts),
                group=draw(st.sampled_from(["a", "b"])),
                images=tuple(f"picture{draw(st.integers(0, 3))}" for _ in range(images)),
            )
        )
    return found


def _eye(
    prefix: str, n: int, scores: Scores, group: Callable[[int], str | None], **meta: Any
) -> list[Record]:
    """Two images and two texts each, the first of both in turn with the second."""
    return [
        record(
            f"{prefix}{i}",
            scores((2, 2), i),
            np.eye(2)[:: 1 if i % 2 else -1],
            group=group(i),
            images=(f"{prefix}{i}a", f"{prefix}{i}b"),
            meta=meta,
        )
        for i in range(n)
    ]


def _choice(n: int, texts: int, scores: Scores, meta: dict[str, Any] | None = None) -> list[Record]:
    """One image and several texts, the right one in every place in turn."""
    return [
        record(
            f"choice{i}",
            scores((1, texts), i),
            [np.arange(texts) == i % texts],
            images=(f"choice{i}.jpg",),
            meta=meta or {},
        )
        for i in range(n)
    ]


def _retrieval(n: int, scores: Scores) -> list[Record]:
    texts = tuple(f"text {j}" for j in range(2 * n))
    return [
        record(
            f"picture{i}",
            scores((1, 2 * n), i),
            [np.arange(2 * n) // 2 == i],
            images=(f"picture{i}.jpg",),
            texts=texts,
        )
        for i in range(n)
    ]


def _of(names: Sequence[str]) -> Callable[[int], str]:
    return lambda index: names[index % len(names)]


def _with_probabilities(records: list[Record]) -> list[Record]:
    """By a curve that lies between scores of 0 and 2."""
    return [replace(one, probabilities=0.5 * (1 + np.tanh(3 * (one.scores - 1)))) for one in records]


#: items that each metric applies to, by its name, of the scores a function gives
EXAMPLES: dict[str, Callable[[Scores], list[Record]]] = {
    "accuracy": lambda scores: _eye("pair", 8, scores, _of(["x", "y"])),
    "acc@1": lambda scores: _choice(10, 10, scores),
    "acc@5": lambda scores: _choice(10, 10, scores),
    "winoground": lambda scores: _eye("wino", 8, scores, _of(["Object", "Relation"])),
    "tree": lambda scores: _eye(
        "vl", 12, scores, _of(["Attribute/color/vg", "Object/Size/large/vg", "Relation/action/vg"])
    ),
    "sugarcrepe": lambda scores: _eye("sugar", 12, scores, _of(["add_att", "replace_rel", "swap_obj"])),
    "aro": lambda scores: [
        *_eye("relation", 6, scores, _of(["relation/on", "relation/under"])),
        *_eye("attribute", 60, scores, _of(["attribution/white_large", "attribution/open_new"])),
    ],
    "vqa": lambda scores: _choice(
        8, 4, scores, {"answers": ["yes"] * 6 + ["no"] * 4, "candidates": ["yes", "no", "maybe", "two"]}
    ),
    "kinds": lambda scores: _choice(9, 4, scores, {"kinds": ["whole", "part", "part", "wrong"]}),
    "retrieval": lambda scores: _retrieval(12, scores),
    "mean_score": lambda scores: [
        record(f"made{i}", scores((1, 1), i), [[1]], group="x" if i % 2 else "y") for i in range(9)
    ],
    "calibration": lambda scores: _eye("scale", 8, scores, _of(["x", "y"])),
    "probability": lambda scores: _with_probabilities(_eye("scale", 8, scores, _of(["x", "y"]))),
}
