"""The logistic curve through scores and matches that turns a score into a probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Logistic", "fit"]


@dataclass(frozen=True)
class Logistic:
    """p(match) = 1 / (1 + exp(-(slope · score + offset)))."""

    slope: float
    offset: float

    def __call__(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of a match, of the same shape."""
        return _sigmoid(self.slope * scores + self.offset)


def fit(scores: NDArray[np.float64], match: NDArray[np.bool_]) -> Logistic:
    """The curve of highest likelihood, by Newton's method.

    The targets are drawn in from 0 and 1 as if one more match and one more non-match had been seen (Platt's way), so
    that the curve stays finite where the scores separate the two completely.

    Args:
        scores: finite float64 ``[n]``.
        match: bool ``[n]``.
    """
    matching = int(match.sum())
    others = len(match) - matching
    target = np.where(match, (matching + 1) / (matching + 2), 1 / (others + 2))
    centre, spread = float(scores.mean()), float(scores.std())
    constant = spread <= 1e-12 * max(1.0, abs(centre))
    columns = np.stack(
        [np.zeros_like(scores) if constant else (scores - centre) / spread, np.ones_like(scores)]
    )
    weights, loss = np.zeros(2), np.inf
    step = np.zeros(2)
    for _ in range(200):
        logits = (weights + step) @ columns
        now = float((np.logaddexp(0, logits) - target * logits).mean())
        if now > loss:  # too far
            step = step / 2
            if np.abs(step).max() < 1e-12:
                break
            continue
        weights, loss = weights + step, now
        p = _sigmoid(logits)
        gradient = columns @ (p - target) / len(scores)
        hessian = (columns * (p * (1 - p))) @ columns.T / len(scores) + 1e-12 * np.eye(2)
        step = -np.linalg.solve(hessian, gradient)
        if np.abs(step).max() < 1e-10:
            break
    a = 0.0 if constant else float(weights[0] / spread)
    return Logistic(a, float(weights[1] - a * centre))


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    # tanh does not overflow
    p: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * logits))
    return p
