"""The bundled model tells matching from non-matching, on scenes and with noise that no choice was made on.

The bounds are what the project asks of the model; the card has the figures with intervals.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.benchmarks.default_score import KINDS, kinds_won, pictures

from discffusion import Scorer, load_dataset

pytestmark = pytest.mark.slow

SUBSETS = ("subject", "object", "attribute", "predicate")
SEED = 2718


def accuracy(scorer: Scorer, subset: str, n: int) -> float:
    """Share of strict wins among the four comparisons of each item: two of images, two of texts."""
    wins: list[Any] = []
    for item in load_dataset("shapes", split="test", subset=subset, n=n, seed=SEED):
        s = scorer.matrix(item.images, item.texts)
        wins += [s[0, 0] > s[1, 0], s[1, 1] > s[0, 1], s[0, 0] > s[0, 1], s[1, 1] > s[1, 0]]
    return float(np.mean(wins))


@pytest.fixture(scope="module")
def pocket() -> Scorer:
    return Scorer(device="cpu")


def test_attention(pocket: Scorer) -> None:
    scorer = pocket.with_config("attention")
    by_subset = {subset: accuracy(scorer, subset, 60) for subset in SUBSETS}
    assert np.mean(list(by_subset.values())) >= 0.75, by_subset
    assert by_subset["predicate"] >= 0.62, by_subset


def test_the_default(pocket: Scorer) -> None:
    by_subset = {subset: accuracy(pocket, subset, 25) for subset in SUBSETS}
    assert np.mean(list(by_subset.values())) >= 0.95, by_subset
    assert by_subset["predicate"] >= 0.80, by_subset


def test_the_default_ranks_texts_of_any_kind(pocket: Scorer) -> None:
    """The right caption of a picture is above fragments, a photograph's caption, and captions that are wrong."""
    images, texts = pictures("test", SEED, 20)
    flat, width = [text for row in texts for text in row], len(texts[0])
    scores = pocket.score_pairs(images, flat, [(i // width, i) for i in range(len(flat))])
    won = dict(zip(KINDS, kinds_won(scores.reshape(-1, width)).mean(0), strict=True))
    assert min(won.values()) >= 0.95, won
