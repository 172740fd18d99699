"""What is observed of items is what scores are made of, and what is compared shares an image or a text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.python.training_items import item

from discffusion import ConfigError, DatasetError, MatchItem, ScoreConfig, Scorer
from discffusion.calibration import Weights, observe
from discffusion.calibration.observing import LEVELS, comparisons, pooled
from discffusion.calibration.run import baseline, levels_of

LEVELS_OF_TWO = (0.7, 0.3)


def odd(number: int, images: int, texts: int, matching: list[tuple[int, int]]) -> MatchItem:
    draw = np.random.default_rng(100 + number)
    match = np.zeros((images, texts), bool)
    for place in matching:
        match[place] = True
    return MatchItem(
        key=f"odd {number}",
        images=[draw.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(images)],
        texts=[f"a dog number {text} of {number}" for text in range(texts)],
        match=match,
    )


@pytest.fixture(scope="module")
def items() -> list[MatchItem]:
    return [
        item(0),
        odd(1, 1, 3, [(0, 1)]),
        odd(2, 1, 1, [(0, 0)]),  # nothing to compare with
        odd(3, 3, 1, [(0, 0), (2, 0)]),
        item(4),
    ]


def of_pairs(scorer: Scorer, items: list[MatchItem]) -> np.ndarray:
    return np.concatenate([scorer.matrix(one.images, one.texts).ravel() for one in items])


def test_numbers_are_those_of_scores(scorer: Scorer, items: list[MatchItem]) -> None:
    base = scorer.with_config("attention", truncate="silent")
    told: list[tuple[int, int]] = []
    found = observe(
        base, items, levels=LEVELS_OF_TWO, progress=lambda done, total: told.append((done, total))
    )
    kept = [one for one in items if one.match.size > 1]
    assert found.layers == tuple(scorer.layers)
    assert found.levels == LEVELS_OF_TWO
    assert set(found.attention) == {"cosine", "logits"}
    assert found.labels.tolist() == [bool(m) for one in kept for m in one.match.ravel()]
    assert told[-1] == (4, 4)
    levels: dict[str, Any] = {"noise_levels": LEVELS_OF_TWO}
    for kind in ("cosine", "logits"):
        for names in (tuple(scorer.layers), (scorer.layers[1],)):
            one = base.with_config(**levels, **pooled(base.config, kind), layers=names)
            np.testing.assert_allclose(
                Weights.even(found, kind, names).score(found), of_pairs(one, kept), rtol=1e-5, atol=1e-6
            )
    denoising = base.with_config(method="denoising", **levels)
    # Of other batches: the term is a small difference of two norms.
    np.testing.assert_allclose(Weights.even(found).score(found), of_pairs(denoising, kept), atol=1e-5)


def test_pairs_are_compared_within_items(scorer: Scorer, items: list[MatchItem]) -> None:
    found = observe(scorer, items, maps=(), levels=(0.5,))
    assert not found.attention
    assert found.error is not None
    assert found.error.shape == (4 + 3 + 3 + 4, 1)
    assert found.comparisons.tolist() == [
        [0, 1], [0, 2], [3, 2], [3, 1],
        [5, 4], [5, 6],
        [7, 8], [9, 8],
        [10, 11], [10, 12], [13, 12], [13, 11],
    ]  # fmt: skip
    assert found.pair_groups.tolist() == [0] * 4 + [1] * 3 + [2] * 3 + [3] * 4
    assert found.groups.tolist() == [0] * 4 + [1] * 2 + [2] * 2 + [3] * 4


def test_items_that_share_an_image_are_one_group(scorer: Scorer) -> None:
    first, other = item(0), item(1)
    again = MatchItem(
        key="again", images=first.images[:1], texts=other.texts, match=np.array([[True, False]])
    )
    found = observe(scorer, [first, other, again], maps=(), levels=(0.5,))
    assert found.pair_groups.tolist() == [0] * 4 + [1] * 4 + [0] * 2


def test_comparisons_of_a_matrix() -> None:
    assert comparisons(np.ones((2, 2), bool)).shape == (0, 2)
    match = np.array([[True, True, False], [False, False, False]])
    assert comparisons(match).tolist() == [[0, 2], [0, 3], [1, 2], [1, 4]]


def test_what_cannot_be_observed(scorer: Scorer, items: list[MatchItem]) -> None:
    with pytest.raises(ConfigError, match="0 of 1 items have a matching pair"):
        observe(scorer, items[2:3])
    with pytest.raises(DatasetError, match="holds no items"):
        observe(scorer, [])
    for maps in ("cosine", ("values",), ("cosine", "cosine")):
        with pytest.raises(ConfigError, match="maps is .*; expected some of: cosine, logits, probs"):
            observe(scorer, items, maps=maps)
    with pytest.raises(ConfigError, match="two noise levels are the timestep 500"):
        observe(scorer, items, levels=(0.5, 0.3, 0.5001))
    with pytest.raises(ConfigError, match="noise_levels"):
        observe(scorer, items, levels=(1.5,))


def test_each_kind_of_map_has_its_own_pooling() -> None:
    own = ScoreConfig(map="logits", lambda_=3.0, pooling="max_row")
    assert pooled(own, "logits") == {"map": "logits", "pooling": "max_row", "lambda_": 3.0}
    assert pooled(own, "cosine") == {"map": "cosine", "pooling": "lse", "lambda_": 10.0}
    assert pooled(ScoreConfig(), "logits") == {"map": "logits", "pooling": "lse", "lambda_": 1.0}
    assert pooled(ScoreConfig(), "probs") == {"map": "probs", "pooling": "lse", "lambda_": 1.0}
    assert len(LEVELS) == 10


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"config": "attention"},
        {"config": "attention", "heads": [1]},
        {"config": "release"},
        {"method": "combined", "denoising_weight": 0.25, "layers": "up"},
        {"timesteps": [700, 123]},
    ],
    ids=str,
)
def test_the_score_before_is_one_of_what_is_observed(
    scorer: Scorer, items: list[MatchItem], fields: dict[str, Any]
) -> None:
    fields = {"steps": None if "timesteps" in fields else 2, **fields}
    own = scorer.with_config(fields.pop("config", "default"), truncate="silent", **fields)
    maps = () if own.config.method == "denoising" else (own.config.map,)
    found = observe(own, items, maps=maps, levels=levels_of(own))
    kept = [one for one in items if one.match.size > 1]
    np.testing.assert_allclose(
        baseline(own.config, found).score(found), of_pairs(own, kept), rtol=1e-5, atol=1e-6
    )
