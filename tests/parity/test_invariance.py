"""A score is a function of model, image, text, configuration and seed, and of nothing else (method, section
1)."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from tests.parity.case import SCORE_TOLERANCE, TEXTS, Case, picture

OPTIONS = {"method": "combined", "map": "logits", "heads": "attributed", "tokens": "content"}


@pytest.fixture(scope="module")
def crowd(sd21: Case) -> Case:
    """Three images and four texts of different lengths."""
    return Case(
        sd21.folder, texts=(*TEXTS, "a dog", "two red birds"), images=[picture(seed) for seed in (1, 2, 3)]
    )


ALL = list(product(range(3), range(4)))


@pytest.fixture(scope="module")
def alone(crowd: Case) -> np.ndarray:
    """Every pair in a request of its own, one evaluation at a time."""
    scores = []
    for i, j in ALL:
        one = Case(crowd.folder, texts=(crowd.texts[j],), images=[crowd.images[i]])
        scores.append(one.scores([(0, 0)], batch_size=1, **OPTIONS)[0])
    return np.array(scores)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64, "auto"])
def test_batch_size_and_company(crowd: Case, alone: np.ndarray, batch_size: int | str) -> None:
    together = crowd.scores(ALL, batch_size=batch_size, **OPTIONS)
    assert together == pytest.approx(alone, rel=SCORE_TOLERANCE, abs=0)


@pytest.mark.parametrize("seed", range(3))
def test_order_and_repetition(crowd: Case, alone: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).integers(len(ALL), size=15)
    scores = crowd.scores([ALL[k] for k in order], batch_size=4, **OPTIONS)
    assert scores == pytest.approx(alone[order], rel=SCORE_TOLERANCE, abs=0)


def test_the_same_request_twice(crowd: Case) -> None:
    np.testing.assert_array_equal(crowd.scores(ALL, **OPTIONS), crowd.scores(ALL, **OPTIONS))


def test_seeded_noise_belongs_to_seed_and_timestep(sd15: Case) -> None:
    """The noise of a timestep is the same in any schedule that holds it, and in any request."""

    def noise(**fields: object) -> dict[int, np.ndarray]:
        config = sd15.config(**{"timesteps": None, "noise_range": None, **fields})
        return dict(zip(sd15.core.timesteps(config), sd15.core.noise(config), strict=True))

    ten, five, two = noise(steps=10), noise(steps=5), noise(timesteps=[201, 901])
    assert set(ten) & set(five) == set(five)
    for some in (five, two, noise(steps=10)):
        assert all(np.array_equal(eps, ten[t]) for t, eps in some.items())
    other = noise(steps=10, seed=1)
    assert all(not np.array_equal(eps, ten[t]) for t, eps in other.items())
    drawn = np.stack([*ten.values(), *other.values()])
    assert drawn.dtype == np.float32
    assert drawn.shape == (20, 4, 16, 16)
    # 20,480 standard normal numbers: mean within 4 of its own deviations, and no two timesteps alike.
    assert abs(drawn.mean()) < 4 / np.sqrt(drawn.size)
    assert abs(drawn.std() - 1) < 0.03
    alike = np.corrcoef(drawn.reshape(20, -1)) - np.eye(20)
    assert np.abs(alike).max() < 0.2


def test_a_request_uses_the_seeded_noise(sd15: Case) -> None:
    config = sd15.config(seed=7, **OPTIONS)
    images, texts, pairs = sd15.images, list(sd15.texts), np.array([[0, 1], [1, 0]])
    seeded = sd15.core.score_pairs(images, texts, pairs, config, None, None)
    given = sd15.core.score_pairs(images, texts, pairs, config, sd15.core.noise(config), None)
    np.testing.assert_array_equal(seeded, given)
    t = sd15.timesteps[1]
    seen = sd15.core.observe(images[0], texts[0], t, ["mid.0"], "probs", False, config, None)
    np.testing.assert_array_equal(seen["noise"], sd15.core.noise(config)[1])
