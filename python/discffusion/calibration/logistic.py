"""Ridge-regularised logistic regression on differences: which of two pairs matches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["losses", "minimise", "objective", "rotated"]

#: of the gradient's largest entry, at which the minimum is reached
TOLERANCE = 1e-8


def losses(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """``log(1 + exp(-m))`` of margins: how unlikely a logistic model holds what is true, in nats."""
    return np.logaddexp(0.0, -margins)


def objective(x: NDArray[np.float64], w: NDArray[np.float64], ridge: float) -> float:
    """The mean loss of comparisons `x` ``[c, f]`` by weights `w` ``[f]``, and ``ridge / 2 · |w|²``."""
    return float(losses(x @ w).mean() + 0.5 * ridge * (w @ w))


def rotated(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Comparisons of many features in as few dimensions as they span.

    The best weights are a sum of comparisons (the representer theorem), so with coordinates ``z`` and orthonormal
    ``basis`` of ``x = z @ basis``, weights ``v`` of ``z`` stand for weights ``v @ basis`` of `x`, of the same length.

    Returns:
        ``z`` ``[c, r]`` and ``basis`` ``[r, f]``.
    """
    values, vectors = np.linalg.eigh(x @ x.T)
    kept = values > values[-1] * 1e-12
    roots = np.sqrt(values[kept])
    return vectors[:, kept] * roots, (vectors[:, kept] / roots).T @ x


def minimise(
    x: NDArray[np.float64],
    ridge: float,
    start: NDArray[np.float64] | None = None,
    *,
    nonnegative: bool = False,
    tolerance: float = TOLERANCE,
) -> NDArray[np.float64]:
    """The weights ``[f]`` of the least :func:`objective`, by Newton's method.

    With `nonnegative` it is the projected method of Bertsekas (1982): weights held at 0 by their gradient stay out of
    the step.

    Args:
        x: finite float64 ``[c, f]``: features of the matching pair less those of the other.
        ridge: above 0.
        start: weights to start from.
        nonnegative: whether weights below 0 are ruled out.
        tolerance: of the gradient's largest entry.
    """
    w = np.zeros(x.shape[1]) if start is None else start
    loss = objective(x, w, ridge)
    for _ in range(100):
        p = 0.5 * (1 - np.tanh(0.5 * (x @ w)))  # of the other pair, without overflow
        gradient = ridge * w - p @ x / len(x)
        free = (w > 0) | (gradient < 0) if nonnegative else np.ones(len(w), bool)
        if not free.any() or np.abs(gradient[free]).max() < tolerance:
            break
        part = x if free.all() else x[:, free]
        root = part * np.sqrt(p * (1 - p) / len(x))[:, None]
        hessian = root.T @ root  # of an array with itself numpy forms one half only
        hessian.flat[:: len(hessian) + 1] += ridge
        step = np.zeros(len(w))
        step[free] = -np.linalg.solve(hessian, gradient[free])
        moved, lower = _search(x, w, step, ridge, loss, nonnegative)
        if lower >= loss:  # rounding ends the descent
            break
        w, loss = moved, lower
    return w


def _search(
    x: NDArray[np.float64],
    w: NDArray[np.float64],
    step: NDArray[np.float64],
    ridge: float,
    loss: float,
    nonnegative: bool,
) -> tuple[NDArray[np.float64], float]:
    """The first of ever shorter steps that lowers the objective, and what it lowers it to."""
    for halvings in range(40):
        moved = w + step * 0.5**halvings
        if nonnegative:
            moved = np.maximum(moved, 0.0)
        lower = objective(x, moved, ridge)
        if lower < loss:
            return moved, lower
    return w, loss
