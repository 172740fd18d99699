"""The regression: at the minimum, with or without signs, in many dimensions or few."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from discffusion.calibration.logistic import losses, minimise, objective, rotated


def drawn(seed: int, rows: int, features: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, features)) + 0.5 * rng.normal(size=features)


@pytest.mark.parametrize("features", [1, 3, 12, 60])
@pytest.mark.parametrize("ridge", [1.0, 0.01])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_the_minimum_is_that_of_a_general_optimiser(features: int, ridge: float, nonnegative: bool) -> None:
    x = drawn(features, 40, features)
    found = minimise(x, ridge, nonnegative=nonnegative)
    expected = optimize.minimize(
        lambda w: objective(x, w, ridge),
        np.zeros(features),
        method="L-BFGS-B",
        bounds=[(0, None) if nonnegative else (None, None)] * features,
        options={"maxiter": 10_000, "ftol": 1e-15, "gtol": 1e-9},
    )
    assert objective(x, found, ridge) <= expected.fun + 1e-12
    np.testing.assert_allclose(found, expected.x, atol=2e-5)
    assert not nonnegative or (found >= 0).all()


@pytest.mark.parametrize("features", [5, 80])
def test_the_gradient_is_zero_at_the_minimum(features: int) -> None:
    x = drawn(1, 30, features)
    w = minimise(x, 0.1)
    steps = 1e-5 * np.eye(features)
    gradient = [(objective(x, w + step, 0.1) - objective(x, w - step, 0.1)) / 2e-5 for step in steps]
    np.testing.assert_allclose(gradient, 0, atol=1e-8)


@pytest.mark.parametrize("rows", [4, 30])
def test_in_fewer_dimensions_the_minimum_is_the_same(rows: int) -> None:
    x = drawn(5, rows, 40)
    x[1] = x[0]
    z, basis = rotated(x)
    assert z.shape == (rows, rows - 1)
    np.testing.assert_allclose(z @ basis, x, atol=1e-10)
    np.testing.assert_allclose(basis @ basis.T, np.eye(rows - 1), atol=1e-9)
    np.testing.assert_allclose(minimise(z, 0.05) @ basis, minimise(x, 0.05), atol=1e-7)


def test_one_feature_by_hand() -> None:
    """Of comparisons that all differ by 1, p of the wrong one is ridge times w."""
    w = minimise(np.ones((7, 1)), 0.1)
    assert 1 / (1 + np.exp(w[0])) == pytest.approx(0.1 * w[0])


@pytest.mark.parametrize("nonnegative", [False, True])
def test_a_start_changes_nothing_but_the_way(nonnegative: bool) -> None:
    for features in (6, 50):
        x = drawn(2, 30, features)
        start = minimise(x, 1.0, nonnegative=nonnegative)
        again = minimise(x, 0.01, start, nonnegative=nonnegative)
        np.testing.assert_allclose(again, minimise(x, 0.01, nonnegative=nonnegative), atol=1e-5)


def test_separable_and_empty_comparisons_have_finite_weights() -> None:
    assert np.isfinite(minimise(np.full((5, 3), 1e3), 1e-6)).all()
    assert (minimise(np.zeros((5, 3)), 1e-3) == 0).all()
    assert (minimise(np.zeros((3, 5)), 1e-3) == 0).all()


def test_losses_do_not_overflow() -> None:
    np.testing.assert_allclose(losses(np.array([0.0, 1e4, -1e4])), [np.log(2), 0, 1e4])
