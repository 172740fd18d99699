"""Losses, scores and gradients of a training step against autograd through diffusers' UNet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.parity.case import SCORE_TOLERANCE
from tests.parity.losses import candidates, gaps
from tests.parity.training_case import LOSS_TOLERANCE, TIMESTEPS, TrainingCase, assert_close

from discffusion.bench.reference.pooling import select

KINDS = ("both", "image", "text")
# Scores are about 5 here; the temperatures keep the sigmoids and softmaxes away from 0 and 1.
LOSSES: tuple[dict[str, Any], ...] = (
    *(
        {"loss": "triplet", "negatives": n, "negative_kinds": k}
        for n, k in product(("hardest", "mean"), KINDS)
    ),
    *({"loss": "cross_entropy", "negative_kinds": k, "temperature": 0.5} for k in KINDS),
    *({"loss": "binary_cross_entropy", "negative_kinds": k, "temperature": 4.0} for k in KINDS),
    {"loss": "diffusion"},
)
SCORES: tuple[dict[str, Any], ...] = (
    {"map": "logits"},
    {"map": "probs", "lambda_": 10.0},
    {"map": "cosine", "layers": "last(1)"},
    {"map": "logits", "heads": "attributed", "attribution": "local"},
    {"method": "denoising"},
    {"method": "combined", "denoising_weight": 0.5, "map": "logits", "layers": "last_blocks"},
    {"map": "logits", "tokens": "content"},
    {"map": "cosine", "pooling": "max_row", "heads": [1, 0]},
    {"map": "logits", "pooling": "mean", "layers": ["down.1.0", "mid.0", "up.2.1"]},
)
# The error alone, and weights by backpropagation, which are constants to the gradient of the loss.
MORE_SCORES: tuple[dict[str, Any], ...] = (
    {"method": "denoising", "denoising_error": "mse", "unconditional": False},
    {"map": "logits", "heads": "attributed", "attribution": "full"},
    {
        "map": "probs",
        "heads": "attributed",
        "attribution": "integrated",
        "attribution_steps": 2,
        "layers": "last(2)",
    },
    {"map": "logits", "heads": "attributed", "attribution": "elementwise", "tokens": "content"},
)
RANKS = (None, 4)
CHECKPOINTS = ("sd15", "sd21")
# The second item has one image, so it has no negatives that are images.
ITEMS = ([0], [2], [1, 2], [0, 1], [2, 0])
IMAGE_ITEMS = ([0], [2], [2, 0])
# 13 losses, 9 scores and 2 ranks have no common factor: counting through all at once, every loss meets every rank
# within 26 trials and every score every rank within 18, and each loss meets two or three scores.
TRIALS = [
    (
        CHECKPOINTS[n // 2 % 2],
        {**LOSSES[n % 13], "rank": RANKS[n % 2]},
        SCORES[n % 9],
        IMAGE_ITEMS[n % 3] if LOSSES[n % 13].get("negative_kinds") == "image" else ITEMS[n % 5],
    )
    for n in range(30)
]


@pytest.fixture(scope="module")
def training(checkpoint: Callable[..., Path]) -> Callable[[str], TrainingCase]:
    made: dict[str, TrainingCase] = {}

    def get(kind: str) -> TrainingCase:
        if kind not in made:
            made[kind] = TrainingCase(checkpoint(kind, seed=1))
        return made[kind]

    return get


def check(
    case: TrainingCase, options: Mapping[str, Any], fields: Mapping[str, Any], indices: Sequence[int]
) -> dict[str, Any]:
    """What the core says of a step, after it was found to be right."""
    trainer = case.trainer(options, fields)
    found = trainer.gradients(list(indices))
    expected = case.expected(found, trainer.deltas().arrays(), indices, options, fields)
    assert found["loss"] == pytest.approx(expected.loss, rel=LOSS_TOLERANCE, abs=0)
    assert_close(found["gradients"], expected.gradients)
    # A denoising score is the difference of two norms of 32 (of 1,024 numbers), and may be as small as it likes.
    rounding = 0 if fields.get("method", "attention") == "attention" else 32 * 1e-7
    for ours, theirs in zip(found["scores"], expected.scores, strict=True):
        assert ours or options.get("loss") == "diffusion"
        for pair, score in ours:
            assert score == pytest.approx(theirs[pair], rel=SCORE_TOLERANCE, abs=rounding)
    return found


@pytest.mark.parametrize(("kind", "options", "fields", "indices"), TRIALS, ids=str)
def test_losses_and_scores(
    training: Callable[[str], TrainingCase], kind: str, options: Any, fields: Any, indices: list[int]
) -> None:
    found = check(training(kind), options, fields, indices)
    assert any(gradient.any() for gradient in found["gradients"].values())


@pytest.mark.parametrize("fields", MORE_SCORES, ids=str)
def test_attributed_heads(training: Callable[[str], TrainingCase], fields: Any) -> None:
    check(training("sd21"), {"negatives": "mean"}, fields, [1])


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"loss": "diffusion"}, {}),
        ({"loss": "triplet"}, {"method": "combined", "map": "logits"}),
        ({"loss": "cross_entropy"}, {"method": "denoising"}),
    ],
    ids=str,
)
def test_velocity_prediction(
    training: Callable[[str], TrainingCase], options: Any, fields: Any, rank: int | None
) -> None:
    check(training("sd21v"), {**options, "rank": rank}, fields, [0, 1])


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"negatives": "mean", "layers": "up", "timesteps_per_step": 2},
        {"negatives": "hardest", "layers": ["down.0.1", "mid.0"], "projections": "k", "rank": 2},
        {"loss": "cross_entropy", "layers": "last(3)", "projections": "v", "timesteps": "uniform"},
        {"loss": "binary_cross_entropy", "temperature": 4.0, "timesteps_per_step": 2, "rank": 1},
    ],
    ids=str,
)
def test_trained_layers_timesteps_and_batches(
    training: Callable[[str], TrainingCase], options: dict[str, Any], in_batch: bool
) -> None:
    case = training("sd21")
    found = check(case, {**options, "in_batch": in_batch}, {"map": "logits"}, [0, 1])
    steps = options.get("timesteps_per_step", 1)
    assert found["timesteps"].shape[1] == found["noise"].shape[1] == steps
    if options.get("timesteps") != "uniform":
        assert set(found["timesteps"].ravel()) <= set(TIMESTEPS)
    # The arrays are those of the layers and projections that are trained, and no others.
    names = [f"to_{letter}" for letter in options.get("projections", "kv")]
    parts = ["down", "up"] if options.get("rank") else ["delta"]
    paths = [
        case.model.processors[site].path for site in select(case.model.sites, options.get("layers", "all"))
    ]
    assert sorted(found["gradients"]) == sorted(".".join(name) for name in product(paths, names, parts))


def test_noise_is_shared_by_the_pairs_of_an_item_alone(training: Callable[[str], TrainingCase]) -> None:
    """Standard normal, one draw an item and timestep, and none twice."""
    found = (
        training("sd15").trainer({"timesteps_per_step": 2, "timesteps": "uniform"}, {}).gradients([0, 1, 2])
    )
    times, noise = found["timesteps"], found["noise"]
    assert times.shape == (3, 2) and times.min() >= 0 and times.max() < 1000 and len(np.unique(times)) > 1
    draws = noise.reshape(6, -1)
    assert abs(draws.mean()) < 4 / np.sqrt(draws.size) and abs(draws.std() - 1) < 0.05
    assert np.abs(np.corrcoef(draws) - np.eye(6)).max() < 0.2


@pytest.mark.parametrize("negatives", ["hardest", "mean"])
def test_some_hinges_inactive(training: Callable[[str], TrainingCase], negatives: str) -> None:
    case, indices, fields = training("sd21"), [0, 1, 2], {"map": "logits", "layers": "up"}
    options = {"negatives": negatives}
    trainer = case.trainer(options, fields)
    found = trainer.gradients(indices)
    scores = case.expected(found, trainer.deltas().arrays(), indices, options, fields).scores
    # By how much every positive leads each of its negatives, or the hardest: a margin between the two longest leads
    # leaves one hinge inactive.
    leads = [
        -gap
        for matrix, item in zip(scores, case.items, strict=True)
        for gap in gaps(torch.tensor(matrix), *candidates(item.match, item.mismatch, "both"))
    ]
    hinges = torch.cat(leads if negatives == "mean" else [lead.min()[None] for lead in leads])
    margin = hinges.topk(2).values.mean().item()
    assert margin > 0, "no positive leads, and a margin is not negative"
    some = check(case, {**options, "margin": margin}, fields, indices)
    assert 0 < some["loss"] < found["loss"]


def test_no_active_hinge_no_gradient(training: Callable[[str], TrainingCase]) -> None:
    """The text that scores best is called the match, and the margin is less than its lead."""
    case, fields = training("sd15"), {"map": "logits"}
    ranked = sorted(case.trainer({}, fields).gradients([1])["scores"][0], key=lambda scored: scored[1])
    (pair, best), (_, second) = ranked[-1], ranked[-2]
    match = np.zeros((1, 3), bool)
    match[pair], lead = True, best - second
    trainer = case.trainer({"margin": lead / 2}, fields, matches={1: match})
    found = trainer.gradients([1])
    assert found["loss"] == 0
    assert not any(gradient.any() for gradient in found["gradients"].values())
    step = json.loads(trainer.step([1], 10))
    assert step["active"] == step["backward_rows"] == 0


def test_temperature_found_at_the_start(training: Callable[[str], TrainingCase]) -> None:
    """Such that a match and a mismatch of the first batch are 0.2 apart in the mean; then it stays."""
    case, indices, fields = training("sd15"), [0, 2], {"map": "logits"}
    trainer = case.trainer({"temperature": None, "margin": 0.2}, fields)
    arrays, found = trainer.deltas().arrays(), trainer.gradients(indices)
    scores = case.expected(found, arrays, indices, {}, fields).scores
    apart = [
        gap.abs()
        for index, matrix in zip(indices, scores, strict=True)
        for gap in gaps(
            torch.tensor(matrix), *candidates(case.items[index].match, case.items[index].mismatch, "both")
        )
    ]
    temperature = torch.cat(apart).mean().item() / 0.2
    options = {"temperature": temperature, "margin": 0.2}
    expected = case.expected(found, arrays, indices, options, fields)
    said = [json.loads(trainer.step(batch, 10)) for batch in (indices, [1])]
    # Differences are a hundredth of the scores or less, and keep as many digits fewer.
    assert said[0]["temperature"] == said[1]["temperature"] == pytest.approx(temperature, rel=1e-3)
    assert said[0]["loss"] == pytest.approx(expected.loss, rel=1e-3)


def test_few_rows_with_a_gradient(training: Callable[[str], TrainingCase]) -> None:
    """After a while in which few rows needed a gradient, the core finds those first and runs them alone."""
    case, fields = training("sd15"), {"map": "logits", "layers": "up"}
    texts = [
        f"{count} {colour} birds" for count in ("two", "three", "four") for colour in ("red", "blue", "green")
    ]
    case = case.with_item([case.raw[0][0][0]], texts, np.arange(9)[None] == 4)
    last = len(case.raw) - 1
    trainer = case.trainer({"learning_rate": 1e-6}, fields)
    for _ in range(12):
        step = json.loads(trainer.step([last], 100))
    assert (step["rows"], step["backward_rows"]) == (9, 2)
    found = trainer.gradients([last, 0])
    expected = case.expected(found, trainer.deltas().arrays(), [last, 0], {}, fields)
    assert found["loss"] == pytest.approx(expected.loss, rel=LOSS_TOLERANCE, abs=0)
    assert_close(found["gradients"], expected.gradients)


@pytest.mark.parametrize(
    ("fields", "rank"), [({"map": "logits"}, 4), ({"method": "combined", "map": "cosine"}, None)], ids=str
)
@pytest.mark.parametrize(
    ("changed", "tolerance"), [({"recompute": True}, 1e-5), ({"accumulate": 2}, 5e-5)], ids=str
)
def test_savings_change_nothing(
    training: Callable[[str], TrainingCase],
    changed: dict[str, Any],
    tolerance: float,
    fields: dict[str, Any],
    rank: int | None,
) -> None:
    """But the order of some sums."""
    case, options = training("sd21"), {"negatives": "mean", "rank": rank}
    plain = case.trainer(options, fields).gradients([0, 2])
    saving = case.trainer({**options, **changed}, fields).gradients([0, 2])
    np.testing.assert_array_equal(saving["timesteps"], plain["timesteps"])
    assert saving["loss"] == pytest.approx(plain["loss"], rel=1e-6, abs=0)
    assert_close(saving["gradients"], plain["gradients"], tolerance)
