"""Scores with the same noise against the reference, for every option of the score."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from tests.parity.case import SCORE_TOLERANCE, Case

from discffusion.bench.reference.scores import Recording

MAPS = ("probs", "logits", "cosine")
POOLINGS = ("lse", "max_row", "max_col", "mean")
# Head 1 alone and not head 0, whose signed logits of one text cancel to a hundredth of their size: of so little, the
# relative error tells one machine from another.
HEADS: tuple[dict[str, Any], ...] = (
    {"heads": "mean"},
    {"heads": [1]},
    {"heads": [1, 0]},
    {"heads": "attributed", "attribution": "local"},
    {"heads": "attributed", "attribution": "elementwise"},
)
LAYERS = (
    "all",
    "down",
    "mid",
    "up",
    "last(1)",
    "last(2)",
    "last(8)",
    "last_blocks",
    ["up.3.1", "mid.0", "down.0.0"],
)


def check(case: Case, pairs: list[tuple[int, int]] | None = None, **options: Any) -> None:
    pairs = pairs or [(0, 0), (1, 1)]
    expected = [case.recording.score(*pair, **options) for pair in pairs]
    assert case.scores(pairs, **options) == pytest.approx(expected, rel=SCORE_TOLERANCE, abs=0)


@pytest.mark.parametrize(("map", "pooling", "tokens"), list(product(MAPS, POOLINGS, ("all", "content"))))
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_every_map_pooling_and_head_option(
    epsilon_case: Case, map: str, pooling: str, tokens: str, heads: Any
) -> None:
    check(epsilon_case, map=map, pooling=pooling, tokens=tokens, **heads)


@pytest.mark.parametrize("layers", LAYERS, ids=str)
@pytest.mark.parametrize("map", MAPS)
def test_every_choice_of_layers(epsilon_case: Case, map: str, layers: Any) -> None:
    check(epsilon_case, map=map, layers=layers, heads="attributed", attribution="local")


@pytest.mark.parametrize("lambda_", [0.01, 0.5, 10.0, 300.0])
@pytest.mark.parametrize(("map", "heads"), list(product(MAPS, HEADS)), ids=str)
def test_lambda(sd21: Case, lambda_: float, map: str, heads: Any) -> None:
    check(sd21, map=map, pooling="lse", lambda_=lambda_, **heads)


@pytest.mark.parametrize("method", ["attention", "denoising", "combined"])
@pytest.mark.parametrize("map", MAPS)
def test_every_method(case: Case, method: str, map: str) -> None:
    check(case, pairs=[(0, 0), (0, 1), (1, 0), (1, 1)], method=method, map=map)


@pytest.mark.parametrize("unconditional", [True, False])
@pytest.mark.parametrize("denoising_error", ["norm", "mse"])
@pytest.mark.parametrize("method", ["denoising", "combined"])
def test_every_denoising_term(case: Case, method: str, denoising_error: str, unconditional: bool) -> None:
    """DiffusionITM, Diffusion Classifier, and what lies between."""
    options = {"denoising_error": denoising_error, "unconditional": unconditional}
    check(case, pairs=[(0, 0), (0, 1), (1, 0), (1, 1)], method=method, map="logits", **options)


@pytest.mark.parametrize("weight", [0.0, 0.25, 3.0])
@pytest.mark.parametrize(("pooling", "layers"), list(product(POOLINGS, ("all", "last_blocks"))))
def test_combined(case: Case, weight: float, pooling: str, layers: str) -> None:
    """The released code's form is weight 1, logits, last blocks."""
    check(case, method="combined", denoising_weight=weight, map="logits", pooling=pooling, layers=layers)


def test_denoising_scores_are_no_rounding_noise(case: Case) -> None:
    """A tolerance relative to a difference of two norms of 32 (of 1,024 numbers) needs a difference of some
    size."""
    gains = [case.recording.score(i, j, method="denoising") for i, j in product((0, 1), repeat=2)]
    assert min(gains) > 0.1


@pytest.mark.parametrize("level", [0.2, 0.4, 0.6, 0.8])
def test_noise_levels_are_timesteps(sd15: Case, level: float) -> None:
    """Method, section 1: t = round(level · T)."""
    levels = Case(sd15.folder, timesteps=(round(level * 1000),))
    expected = levels.recording.score(0, 0, map="logits")
    ours = levels.scores([(0, 0)], map="logits", timesteps=None, noise_levels=[level])
    assert ours == pytest.approx([expected], rel=SCORE_TOLERANCE, abs=0)


@pytest.mark.parametrize("method", ["attention", "denoising", "combined"])
@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_the_text_prior(sd21: Case, method: str, weight: float) -> None:
    """The log-mean-exp of the scores with null images, time by time: a latent of zeros, and two of noise."""
    model, side = sd21.reference, sd21.resolution
    nulls = torch.from_numpy(sd21.core.null_latents(sd21.config()))
    assert nulls.shape == (3, 4, side // 8, side // 8)
    assert not nulls[0].any()
    assert nulls[1:].std().item() == pytest.approx(1.0, abs=0.05)
    image = model.latent(sd21.images[0], side)
    options = {"method": method, "map": "cosine", "lambda_": 10.0}
    expected, blind = [], []
    for text in (0, 1):
        of_text = []
        for t, noise in sd21.noise.items():
            recording = Recording(model, [*nulls, image], sd21.texts, {t: noise})
            *without, score = (recording.score(place, text, **options) for place in range(4))
            prior = float(np.log(np.mean(np.exp(without))))
            of_text.append((score - weight * prior, prior))
        scores, priors = zip(*of_text, strict=True)
        expected.append(np.mean(scores))
        blind.append(np.mean(priors))
    # A score is a difference: its error is one of its terms'.
    within = {"rel": 0, "abs": SCORE_TOLERANCE * max(1.0, float(np.abs(blind).max()))}
    found = sd21.scores([(0, 0), (0, 1)], prior="null", prior_weight=weight, **options)
    assert found == pytest.approx(expected, **within)
