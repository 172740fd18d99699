"""Small things to train on, the same in every process, and what tests of a run share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from discffusion import MatchItem, Scorer, Trainer

# One timestep and a few trained layers: a step of a tiny model takes hundredths of a second.
SCORE: dict[str, Any] = {
    "method": "attention",
    "noise_levels": [0.5],
    "layers": "last(2)",
    "resolution": 64,
    "truncate": "silent",
}
OPTIONS: dict[str, Any] = {"layers": "up", "learning_rate": 3e-3, "margin": 0.5, "temperature": 0.1}
TEXTS = (
    "a red circle",
    "a blue square",
    "a green cross",
    "a dog on a sofa",
    "two birds",
    "a small yellow house",
)


def item(number: int) -> MatchItem:
    """Two pictures of noise and two texts; the first belongs to the first."""
    draw = np.random.default_rng(number)
    images = [draw.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(2)]
    texts = [
        TEXTS[number % len(TEXTS)],
        TEXTS[(number + 1 + number // len(TEXTS)) % len(TEXTS)] + " at night",
    ]
    return MatchItem(key=f"item {number}", images=images, texts=texts, match=np.eye(2, dtype=bool))


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Small networks gain nothing from more threads than one, and lose much where the processors are busy."""
    import torch  # here, since a run that is to be killed need not wait for it

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


class Drawn:
    """Items that are made when they are asked for; listing them is an error."""

    def __init__(self, n: int, first: int = 0) -> None:
        self.n, self.first = n, first
        self.reads: list[int] = []

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> MatchItem:
        if not 0 <= index < self.n:
            raise IndexError(index)
        self.reads.append(index)
        return item(self.first + index)

    def __iter__(self) -> Iterator[MatchItem]:
        raise AssertionError("the items are listed")


def trainer_of(scorer: Scorer, **options: Any) -> Trainer:
    return Trainer(scorer.with_config(**SCORE), **{**OPTIONS, **options})
