"""Observations for tests: drawn from weights that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.calibration import Numbers, Observations

LAYERS, HEADS, LEVELS = ("down", "mid", "up"), (2, 3, 2), (0.8, 0.6, 0.4, 0.2)


def observations(attention: dict[str, Any], error: Any = None, prior: Numbers | None = None) -> Observations:
    """Four pairs an item: two images with two texts, of which the first belongs to the first."""
    pairs = len(error) if error is not None else len(next(iter(attention.values())))
    items = np.arange(pairs // 4)
    comparisons = (4 * items[:, None, None] + np.array([[0, 1], [0, 2], [3, 1], [3, 2]])).reshape(-1, 2)
    return Observations(
        attention={kind: np.asarray(numbers, np.float32) for kind, numbers in attention.items()},
        error=error,
        prior=prior,
        layers=LAYERS,
        heads=HEADS,
        levels=LEVELS,
        comparisons=comparisons,
        groups=np.repeat(items, 4),
        labels=np.tile([True, False, False, True], len(items)),
        pair_groups=np.repeat(items, 4),
        of_image=np.tile([True, False, False, True], len(items)),
    )


def noise(rng: np.random.Generator, pairs: int) -> NDArray[np.float64]:
    """Attention that says nothing, ``[pairs, steps, layers, heads]``, padded with 0."""
    drawn = rng.normal(size=(pairs, len(LEVELS), len(LAYERS), max(HEADS)))
    return drawn * (np.arange(max(HEADS)) < np.array(HEADS)[:, None])


def signal(pairs: int) -> NDArray[np.float64]:
    """1 where a pair matches and 0 elsewhere, ``[pairs]``."""
    return np.tile([1.0, 0.0, 0.0, 1.0], pairs // 4)


def world(seed: int, items: int, heads: dict[tuple[int, int], float], error: float = 0.0) -> Observations:
    """Attention of the map "cosine" that says something in some heads, ``{(layer, head): strength}``, at all steps.

    The map "logits" is noise, and so is the error but for its own strength, in units of the noise.
    """
    rng, pairs = np.random.default_rng(seed), 4 * items
    cosine = noise(rng, pairs)
    for (layer, head), strength in heads.items():
        cosine[:, :, layer, head] += strength * signal(pairs)[:, None]
    errors = rng.normal(size=(pairs, len(LEVELS))) + error * signal(pairs)[:, None]
    return observations({"cosine": cosine, "logits": noise(rng, pairs)}, errors)
