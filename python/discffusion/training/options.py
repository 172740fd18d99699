"""Training options: names and types for editors and type checkers. Rules and defaults live in the core."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from discffusion import _native
from discffusion._registry import did_you_mean
from discffusion.config import _plain
from discffusion.errors import ConfigError

__all__ = ["TrainOptions", "check", "option_table"]


class TrainOptions(TypedDict, total=False):
    """The options of a :class:`~discffusion.trainer.Trainer`, whose documentation tells what they mean."""

    loss: Literal["triplet", "cross_entropy", "binary_cross_entropy", "diffusion"]
    margin: float
    temperature: float | None
    negatives: Literal["hardest", "mean"]
    negative_kinds: Literal["both", "image", "text"]
    in_batch: bool
    rank: int | None
    layers: str | Sequence[str]
    projections: Literal["kv", "k", "v"]
    learning_rate: float
    weight_decay: float
    schedule: Literal["constant", "cosine"]
    warmup_steps: int
    gradient_clip: float | None
    accumulate: int
    timesteps_per_step: int
    timesteps: Literal["config", "uniform"]
    recompute: bool
    seed: int


def option_table() -> list[dict[str, Any]]:
    """Every option in order: name, kind, choices, default, help. From the core, for command line and tests."""
    table: list[dict[str, Any]] = json.loads(_native.core().train_options())
    return table


def check(given: Mapping[str, Any]) -> dict[str, Any]:
    """All options by name: those given, checked, and the core's defaults.

    Raises:
        ConfigError: an option is unknown or out of range; the message names it.
    """
    names = [row["name"] for row in option_table()]
    for name in given:
        if name not in names:
            raise ConfigError(
                f"unknown training option {name!r}{did_you_mean(name, names)}; there are {', '.join(names)}"
            )
    plain = {name: _plain(name, value) for name, value in given.items()}
    full: dict[str, Any] = json.loads(_native.core().train_check(json.dumps(plain)))
    return full
