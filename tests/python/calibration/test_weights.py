"""Weights: their score by hand, pruned, and as arrays."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.python.calibration.worlds import HEADS, LAYERS, LEVELS, noise, observations

from discffusion.calibration import Numbers, Observations, Weights
from discffusion.errors import ConfigError


@pytest.fixture
def observed() -> Observations:
    rng = np.random.default_rng(0)
    prior = Numbers(attention={"cosine": noise(rng, 8).astype(np.float32)}, error=rng.normal(size=(8, 4)))
    return observations({"cosine": noise(rng, 8)}, rng.normal(size=(8, 4)), prior)


def drawn(**changes: Any) -> Weights:
    rng = np.random.default_rng(1)
    fields = {
        "layers": LAYERS,
        "heads": HEADS,
        "levels": LEVELS,
        "attention": noise(rng, 1)[0],
        "error": rng.normal(size=4),
        "map": "cosine",
        "prior_weight": 0.5,
    }
    return Weights(**{**fields, **changes})


def test_a_score_is_a_weighted_sum(observed: Observations) -> None:
    weights = drawn()
    assert weights.attention is not None and weights.error is not None
    assert observed.prior is not None and observed.error is not None and observed.prior.error is not None

    def of(attention: Any, error: Any) -> Any:
        return (weights.attention * attention).sum(axis=(1, 2, 3)) + (weights.error * error).sum(axis=1)

    expected = of(observed.attention["cosine"], observed.error)
    expected -= 0.5 * of(observed.prior.attention["cosine"], observed.prior.error)
    np.testing.assert_allclose(weights.score(observed), expected, rtol=1e-12)


def test_even_weights_are_a_mean_over_heads_then_layers_then_steps(observed: Observations) -> None:
    cosine = observed.attention["cosine"].astype(float)
    means = cosine.sum(axis=3)[:, :, [0, 1]] / np.array([2, 3])
    found = Weights.even(observed, "cosine", ("down", "mid")).score(observed)
    np.testing.assert_allclose(found, means.mean(axis=(1, 2)), rtol=1e-12)
    assert observed.error is not None
    np.testing.assert_allclose(Weights.even(observed).score(observed), observed.error.mean(axis=1))


def test_what_has_no_weight_need_not_be_observed(observed: Observations) -> None:
    weights = drawn()
    assert weights.attention is not None and weights.error is not None
    weights.attention[:, 1] = 0
    weights.attention[2], weights.error[2] = 0, 0
    pruned = weights.pruned()
    assert (pruned.layers, pruned.heads, pruned.levels) == (("down", "up"), (2, 2), (0.8, 0.6, 0.2))
    np.testing.assert_allclose(pruned.score(observed), weights.score(observed), rtol=1e-12)
    only = drawn(attention=np.zeros((4, 3, 3))).pruned()
    assert (only.map, only.attention, only.layers) == (None, None, ())
    assert drawn(error=np.zeros(4)).pruned().error is None


def test_steps_and_layers_are_found_by_name(observed: Observations) -> None:
    weights = drawn(error=None, prior_weight=0.0)
    turned = replace(
        observed,
        layers=LAYERS[::-1],
        heads=HEADS[::-1],
        levels=LEVELS[::-1],
        attention={"cosine": observed.attention["cosine"][:, ::-1, ::-1]},
        prior=None,
        error=None,
    )
    np.testing.assert_allclose(weights.score(turned), weights.score(observed), rtol=1e-12)


def test_arrays_and_json_give_the_same_weights(observed: Observations) -> None:
    for weights in (drawn(), drawn().pruned(), drawn(map=None, attention=None), drawn(error=None)):
        arrays, about = weights.to_arrays()
        again = Weights.from_arrays(arrays, json.loads(json.dumps(about)))
        assert again.to_arrays()[1] == about
        np.testing.assert_array_equal(again.score(observed), weights.score(observed))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ("out",), "heads": (2,), "attention": np.zeros((4, 1, 2))}, "layer out was not observed"),
        (
            {"levels": (0.7,), "attention": np.zeros((1, 3, 3)), "error": None},
            "noise level 0.7 was not observed",
        ),
        ({"heads": (2, 2, 3)}, "another number of heads"),
        ({"map": "probs"}, "map 'probs' was not observed"),
    ],
)
def test_what_was_not_observed_is_an_error(observed: Observations, change: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        drawn(**change).score(observed)


def test_a_prior_or_an_error_that_was_not_observed_is_an_error(observed: Observations) -> None:
    with pytest.raises(ConfigError, match="need the prior"):
        drawn().score(replace(observed, prior=None))
    with pytest.raises(ConfigError, match="need the error"):
        drawn().score(replace(observed, prior=None, error=None))


@pytest.mark.parametrize(
    "change",
    [
        {"map": None},
        {"error": np.zeros(3)},
        {"error": np.full(4, np.nan)},
        {"heads": (1,)},
        {"prior_weight": np.inf},
    ],
)
def test_malformed_weights_are_refused(change: Any) -> None:
    with pytest.raises(ConfigError):
        drawn(**change)


@pytest.mark.parametrize("about", [{}, {"layers": 3}, {**drawn().to_arrays()[1], "levels": ["high"]}])
def test_arrays_of_something_else_are_refused(about: Any) -> None:
    with pytest.raises(ConfigError, match="no weights of a score"):
        Weights.from_arrays({}, about)
    with pytest.raises(ConfigError, match="no weights of bias"):
        Weights.from_arrays({"bias": np.zeros(1)}, about)
