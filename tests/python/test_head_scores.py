"""What scores are made of, head by head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from discffusion import ConfigError, Scorer

TEXTS = ["a red circle", "a blue square left of a dog", "a"]
PAIRS = [(0, 0), (1, 1), (0, 2), (1, 1), (1, 0)]


@pytest.mark.parametrize("map", ["cosine", "logits", "probs"])
@pytest.mark.parametrize("pooling", ["lse", "max_row", "max_col", "mean"])
@pytest.mark.parametrize("tokens", ["all", "content"])
def test_scores_are_their_means(
    scorer: Scorer, picture: np.ndarray, map: str, pooling: str, tokens: str
) -> None:
    options: dict[str, Any] = {
        "map": map,
        "pooling": pooling,
        "tokens": tokens,
        "layers": "all",
        "steps": 3,
        "resolution": 64,
    }
    both = scorer.with_config(method="combined", denoising_weight=0.5, batch_size=2, **options)
    images = [picture, picture[::-1]]
    found = both.head_scores(images, TEXTS, PAIRS)
    assert list(found.layers) == scorer.layers
    heads = {layer["name"]: layer["heads"] for layer in scorer.info()["layers"]}
    assert {name: numbers.shape for name, numbers in found.layers.items()} == {
        name: (5, 3, heads[name]) for name in heads
    }
    assert found.denoising is not None
    assert found.denoising.shape == (5, 3)
    attention = np.mean([numbers.mean(2, dtype=np.float64) for numbers in found.layers.values()], axis=0)
    by_step = both.score_pairs(images, TEXTS, PAIRS, per_step=True)
    np.testing.assert_allclose(attention + 0.5 * found.denoising, by_step, rtol=1e-5, atol=1e-5)
    one = both.with_config(method="attention", heads=[1], layers=[scorer.layers[2]])
    np.testing.assert_allclose(
        one.score_pairs(images, TEXTS, PAIRS, per_step=True),
        found.layers[scorer.layers[2]][..., 1],
        rtol=1e-5,
        atol=1e-6,
    )
    assert list(found.timesteps) == scorer.with_config(steps=3).describe()["timesteps"]


def test_only_what_the_method_has(scorer: Scorer, picture: np.ndarray) -> None:
    attention = scorer.with_config("attention", steps=1).head_scores(picture, TEXTS, [(0, 1)])
    assert attention.denoising is None
    assert list(attention.layers) == scorer.layers[-1:]
    denoising = scorer.with_config(method="denoising", steps=2)
    found = denoising.head_scores(picture, TEXTS, [(0, 1)])
    assert not found.layers
    np.testing.assert_allclose(
        found.denoising, denoising.score_pairs(picture, TEXTS, [(0, 1)], per_step=True), atol=1e-9
    )
    alone = denoising.with_config(unconditional=False)
    np.testing.assert_allclose(
        alone.head_scores(picture, TEXTS, [(0, 1)]).denoising,
        alone.score_pairs(picture, TEXTS, [(0, 1)], per_step=True),
        atol=1e-9,
    )


def test_a_prior_is_the_mean_over_null_images(scorer: Scorer, picture: np.ndarray) -> None:
    own = scorer.with_config(method="combined", layers="all", steps=2, resolution=64, prior="null")
    found = own.head_scores(picture, TEXTS, [(0, 1), (0, 0)])
    plain = own.with_config(prior=None)
    without = plain.head_scores(picture, TEXTS, [(0, 1), (0, 0)])
    assert without.prior is None
    assert found.denoising is not None
    np.testing.assert_allclose(found.denoising, without.denoising, atol=1e-6)
    assert found.prior is not None
    assert found.prior.denoising is not None
    assert found.prior.denoising.shape == (3, 2)
    blind = own.blind(TEXTS)
    attention = np.mean([n.mean(2, dtype=np.float64) for n in found.prior.layers.values()], axis=0)
    # log-mean-exp of numbers that are nearly equal is nearly their mean, and never below it
    apart = blind - (attention + found.prior.denoising).mean(axis=1)
    assert (apart > -1e-6).all()
    assert (apart < 0.05).all()


def test_wrong_pairs_are_refused(scorer: Scorer, picture: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"pair \(0, 3\) names none of 1 images and 3 texts"):
        scorer.head_scores(picture, TEXTS, [(0, 3)])


def test_there_are_pairs(scorer: Scorer, picture: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="head_scores was given no pairs"):
        scorer.head_scores(picture, TEXTS, [])
