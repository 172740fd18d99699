"""Contributions add up to the score, whatever it is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.python.training_items import Drawn, trainer_of

from discffusion import Explanation, Scorer

TEXT = "a blue square left of a dog"
#: every method, pooling, way to weigh heads, choice of tokens and layers, with each of the others somewhere
CONFIGS: list[dict[str, Any]] = [
    {},
    {"method": "denoising"},
    {"method": "denoising", "unconditional": False},
    {"method": "denoising", "denoising_error": "mse"},
    {"method": "combined", "denoising_weight": 0.3},
    {"prior": "null"},
    {"method": "combined", "prior": "null", "prior_weight": 1.5, "map": "logits"},
    {"method": "combined", "config": "release", "unconditional": False},
    {"config": "paper", "steps": 3},
    {"map": "logits", "pooling": "lse", "lambda_": 0.5, "layers": "all"},
    {"map": "probs", "pooling": "lse", "lambda_": 30.0, "layers": "down", "tokens": "content"},
    {"map": "cosine", "pooling": "max_row", "layers": "all"},
    {"map": "logits", "pooling": "max_row", "layers": "mid", "tokens": "content", "heads": "attributed"},
    {"map": "probs", "pooling": "max_col", "layers": "all", "tokens": "content"},
    {"map": "cosine", "pooling": "max_col", "layers": "up", "heads": "attributed"},
    {"map": "logits", "pooling": "mean", "layers": "all", "heads": [0]},
    {"map": "cosine", "pooling": "mean", "layers": "last_blocks", "tokens": "content", "heads": [1]},
    {"map": "logits", "layers": "all", "heads": "attributed", "attribution": "full"},
    {"map": "logits", "layers": "last(2)", "heads": "attributed", "attribution": "integrated", "attribution_steps": 2},
    {"map": "probs", "layers": "all", "heads": "attributed", "attribution": "elementwise", "lambda_": 10.0},
    {
        "map": "logits", "pooling": "max_col", "heads": "attributed", "attribution": "elementwise",
        "tokens": "content", "method": "combined",
    },
    {"layers": ["up.1.0", "down.0.0"], "timesteps": [10, 500, 500, 990], "batch_size": 3},
]  # fmt: skip


def check(explained: Explanation, score: float) -> None:
    within = pytest.approx(score, abs=1e-6 * max(1.0, abs(score)))
    assert explained.score == within
    rest = explained.denoising + explained.prior
    assert explained.per_token.sum() + rest == within
    assert sum(explained.per_layer.values()) + rest == within
    assert sum(heads.sum() for heads in explained.per_head.values()) + rest == within
    assert explained.per_timestep.sum() == within
    assert sum(c.sum() for c in explained.contributions.values()) + rest == within
    added = [i for i, token in enumerate(explained.tokens) if token.kind != "own"]
    assert explained.per_word.sum() + explained.per_token[added].sum() + rest == within
    if explained.places is None:
        assert not explained.contributions
    else:
        assert explained.places.sum() + rest == within
        np.testing.assert_allclose(explained.places.sum(axis=(1, 2)), explained.per_token, atol=1e-9)


@pytest.mark.parametrize("fields", CONFIGS, ids=str)
def test_parts_add_up(scorer: Scorer, picture: np.ndarray, fields: dict[str, Any]) -> None:
    fields = dict(fields)
    other = scorer.with_config(fields.pop("config", None), **{"steps": 2, **_times(fields), **fields})
    explained = other.explain(picture, TEXT)
    check(explained, other.score(picture, TEXT))
    by_step = other.score_pairs([picture], [TEXT], [(0, 0)], per_step=True)[0]
    np.testing.assert_allclose(
        explained.per_timestep * len(by_step), by_step, atol=1e-6 * max(1, np.abs(by_step).max())
    )
    if other.config.tokens == "content":
        assert all(explained.per_token[i] == 0 for i, t in enumerate(explained.tokens) if t.kind != "own")


def _times(fields: dict[str, Any]) -> dict[str, Any]:
    return {"steps": None} if "timesteps" in fields else {}


def test_deltas_and_learned_weights_count(scorer: Scorer, picture: np.ndarray) -> None:
    trainer = trainer_of(scorer, learning_rate=0.02, layers="all")
    trainer.fit(Drawn(2), epochs=1)
    plain = scorer.with_config(layers="last(2)")
    adapted = plain.with_deltas(trainer.deltas).with_config(heads="learned")
    explained = adapted.explain(picture, TEXT)
    check(explained, adapted.score(picture, TEXT))
    before = plain.explain(picture, TEXT)
    assert abs(explained.score - before.score) > 1e-6
    site = plain.info()["layers"][-1]["name"]
    assert np.abs(explained.layer_maps[site] - before.layer_maps[site]).max() > 1e-4
    weights = np.array((trainer.deltas.head_weights or {})[site])
    even = adapted.with_config(heads="mean").explain(picture, TEXT)
    np.testing.assert_allclose(explained.per_head[site], weights * even.per_head[site], rtol=1e-5)


def test_noise_is_the_scores(scorer: Scorer, picture: np.ndarray) -> None:
    shape = (2, *scorer.encode_images(picture).shape[1:])
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    explained = scorer.explain(picture, TEXT, noise=noise)
    check(explained, scorer.score(picture, TEXT, noise=noise))
    assert explained.score != scorer.explain(picture, TEXT).score


def test_the_batch_size_changes_nothing(scorer: Scorer, picture: np.ndarray) -> None:
    other = scorer.with_config(steps=5, map="logits", layers="all", method="combined")
    one, all_ = (other.with_config(batch_size=size).explain(picture, TEXT, map="probs") for size in (1, 5))
    np.testing.assert_allclose(one.per_token, all_.per_token, atol=1e-6)
    np.testing.assert_allclose(one.timestep_maps, all_.timestep_maps, atol=1e-6)
    np.testing.assert_allclose(one.per_timestep, all_.per_timestep, atol=1e-5)
