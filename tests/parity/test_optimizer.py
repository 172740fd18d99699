"""Optimiser steps against torch.optim.AdamW fed with the core's own gradients.

The learning rate of step s, counted from 0, is `lr · (s + 1) / warmup` while s < warmup, and then `lr` ("constant")
or `lr · ½ (1 + cos(π (s − warmup) / max(1, total − warmup)))` ("cosine").
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.parity.training_case import Arrays, TrainingCase, assert_close

FIELDS = {"map": "logits", "layers": "last(4)"}
UNREACHED = "up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_v."
LEARNING_RATE, TOTAL = 1e-2, 6


@pytest.fixture(scope="module")
def case(checkpoint: Callable[..., Path]) -> TrainingCase:
    return TrainingCase(checkpoint("sd15", seed=1))


def rate(step: int, schedule: str, warmup: int) -> float:
    if step < warmup:
        return LEARNING_RATE * (step + 1) / warmup
    if schedule == "constant":
        return LEARNING_RATE
    return LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, TOTAL - warmup)))


@pytest.mark.parametrize(
    ("schedule", "warmup", "decay", "clip", "rank"),
    [
        ("cosine", 2, 0.1, 0.5, None),
        ("cosine", 0, 0.0, None, 4),
        ("constant", 3, 0.3, 0.05, 4),
        ("constant", 0, 0.01, None, None),
    ],
)
def test_adamw(
    case: TrainingCase, schedule: str, warmup: int, decay: float, clip: float | None, rank: int | None
) -> None:
    options: dict[str, Any] = {
        "rank": rank,
        "learning_rate": LEARNING_RATE,
        "weight_decay": decay,
        "schedule": schedule,
        "warmup_steps": warmup,
        "gradient_clip": clip,
    }
    trainer = case.trainer(options, FIELDS)
    start: Arrays = trainer.deltas().arrays()
    leaves = {name: torch.tensor(array) for name, array in start.items()}
    optimizer = torch.optim.AdamW(leaves.values(), lr=LEARNING_RATE, weight_decay=decay)
    clipped = 0
    for step, indices in enumerate(([0, 1], [2], [1, 0], [0])):
        found = trainer.gradients(indices)
        for name, leaf in leaves.items():
            # the last layer's values come after the last map, so PyTorch would have no gradient of them at all
            leaf.grad = None if name.startswith(UNREACHED) else torch.tensor(found["gradients"][name])
            assert leaf.grad is not None or not found["gradients"][name].any()
        norm = torch.nn.utils.clip_grad_norm_(leaves.values(), math.inf if clip is None else clip).item()
        clipped += clip is not None and norm > clip
        optimizer.param_groups[0]["lr"] = rate(step, schedule, warmup)
        optimizer.step()
        said = json.loads(trainer.step(indices, TOTAL))
        assert said["step"] == trainer.steps == step + 1
        assert said["loss"] == pytest.approx(found["loss"], rel=1e-6)
        assert said["learning_rate"] == pytest.approx(rate(step, schedule, warmup), rel=1e-6)
        assert said["gradient_norm"] == pytest.approx(norm, rel=1e-5)
        ours = trainer.deltas().arrays()
        assert_close(ours, {name: leaf.numpy() for name, leaf in leaves.items()}, 1e-5)
        # What was added since the start, which is small beside the start itself.
        moved = {name: leaf.numpy().astype(np.float64) - start[name] for name, leaf in leaves.items()}
        assert_close({name: ours[name].astype(np.float64) - start[name] for name in moved}, moved, 1e-4)
    assert clipped > 0 or clip is None
