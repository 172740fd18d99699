"""Calibrations for tests whose weights are drawn, not fitted."""

from __future__ import annotations

from typing import Any

import numpy as np

from discffusion import Scorer
from discffusion.calibration import Calibration, Weights
from discffusion.calibration.run import calibrated

REPORT: dict[str, Any] = {
    "model": "layers",
    "before": {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8, "ties": 0, "method": "t", "groups": 4},
    "after": {"value": 0.75, "low": 0.5, "high": 0.875, "n": 8, "ties": 0, "method": "t", "groups": 4},
    "directions": {
        "texts": {
            "before": {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4, "ties": 0, "method": "t", "groups": 4},
            "after": {"value": 0.75, "low": 0.5, "high": 0.875, "n": 4, "ties": 0, "method": "t", "groups": 4},
        },
        "images": {
            "before": {"value": 0.75, "low": 0.5, "high": 0.875, "n": 4, "ties": 0, "method": "t", "groups": 4},
            "after": {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4, "ties": 0, "method": "t", "groups": 4},
        },
    },
    "ece": 0.125,
    "brier": 0.25,
    "candidates": [
        {"name": "baseline", "map": None, "prior_weight": 0.0, "ridge": None, "accuracy": 0.5, "pruned": False},
        {"name": "layers", "map": "logits", "prior_weight": 0.0, "ridge": 0.25, "accuracy": 0.75, "pruned": False},
        {"name": "layers", "map": "logits", "prior_weight": 0.0, "ridge": 0.25, "accuracy": 0.8, "pruned": True},
    ],
    "items": 4,
    "pairs": 16,
    "comparisons": 8,
    "groups": 4,
    "data": "a | b",
    "digest": "0" * 32,
    "validation": None,
    "over": ["layers"],
    "seed": 0,
}  # fmt: skip


def weights_of(
    scorer: Scorer,
    levels: tuple[float, ...] = (0.7, 0.3),
    map: str | None = "logits",
    error: bool = True,
    seed: int = 0,
    prior_weight: float = 0.0,
) -> Weights:
    """Of either sign, of the first and the third layer."""
    rng = np.random.default_rng(seed)
    heads = {layer["name"]: layer["heads"] for layer in scorer.info()["layers"]}
    names = (scorer.layers[0], scorer.layers[2]) if map is not None else ()
    attention = None
    if map is not None:
        attention = rng.normal(0, 0.1, (len(levels), 2, max(heads[name] for name in names)))
        for place, name in enumerate(names):
            attention[:, place, heads[name] :] = 0
    return Weights(
        layers=names,
        heads=tuple(heads[name] for name in names),
        levels=levels,
        map=map,
        attention=attention,
        error=rng.normal(0, 0.1, len(levels)) if error else None,
        prior_weight=prior_weight,
    )


def of_probability(scorer: Scorer, /, **changes: Any) -> Calibration:
    """A calibration that leaves the score as it is."""
    report = {**REPORT, "model": "baseline"}
    return made(scorer, **{"weights": None, "config": scorer.config, "report": report, **changes})


def made(scorer: Scorer, /, of: Weights | None = None, **changes: Any) -> Calibration:
    weights = weights_of(scorer) if of is None else of
    fields: dict[str, Any] = {
        "weights": weights,
        "config": calibrated(scorer.config, weights),
        "slope": 2.0,
        "offset": -0.5,
        "scorer": scorer.describe(),
        "report": REPORT,
    }
    return Calibration(**{**fields, **changes})
