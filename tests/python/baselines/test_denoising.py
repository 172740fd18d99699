"""Diffusion Classifier and DiffusionITM on a tiny Stable Diffusion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discffusion import Scorer
from discffusion.baselines import load_baseline
from discffusion.errors import CheckpointError, ConfigError

TEXTS = ["a dog on the grass", "a red car", "two birds", "a red car"]
# scores of the same pair differ by the rounding of float32 where batches differ: of errors whose norm is about 16
ROUNDING = 16 * 2.0**-23
SMALL: dict[str, Any] = {"resolution": 64, "truncate": "silent"}


@pytest.fixture(scope="module")
def model(tiny: Path) -> Scorer:
    return Scorer(tiny, device="cpu", **SMALL)


@pytest.fixture(scope="module")
def pictures(picture: np.ndarray) -> list[np.ndarray]:
    return [picture, 255 - picture, picture[::-1]]


def error(scorer: Scorer, image: Any, text: str, timestep: int) -> np.ndarray:
    """The error of the prediction, as the network makes it."""
    seen = scorer.observe(image, text, timestep)
    assert seen.prediction is not None
    return (seen.prediction - seen.noise).astype(np.float64)


def test_diffusion_classifier_is_minus_the_mean_squared_error(
    model: Scorer, pictures: list[np.ndarray]
) -> None:
    baseline = load_baseline("diffusion-classifier", model=model, timesteps=[300, 700])
    found = baseline.matrix(pictures[0], TEXTS[:2])
    expected = [
        -np.mean([(error(model, pictures[0], text, t) ** 2).mean() for t in (300, 700)]) for text in TEXTS[:2]
    ]
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)


def test_diffusion_itm_is_what_the_text_adds(model: Scorer, pictures: list[np.ndarray]) -> None:
    baseline = load_baseline("diffusion-itm", model=model, timesteps=[300, 700])
    found = baseline.matrix(pictures[1], TEXTS[:2])

    def norm(text: str, t: int) -> float:
        return float(np.linalg.norm(error(model, pictures[1], text, t)))

    expected = [np.mean([norm("", t) - norm(text, t) for t in (300, 700)]) for text in TEXTS[:2]]
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=4 * ROUNDING)


@pytest.mark.parametrize("name", ["diffusion-classifier", "diffusion-itm"])
def test_options(name: str, tiny: Path, model: Scorer, pictures: list[np.ndarray]) -> None:
    loaded = load_baseline(name, model=tiny, device="cpu", steps=2, seed=3, **SMALL)
    told = loaded.describe()
    assert json.loads(json.dumps(told)) == told
    assert (
        told["baseline"] == name and told["config"]["method"] == "denoising" and told["config"]["seed"] == 3
    )
    assert len(told["timesteps"]) == 2
    shared = load_baseline(name, model=model, steps=2, seed=3)
    assert (shared.matrix(pictures, TEXTS) == loaded.matrix(pictures, TEXTS)).all()
    pairs = [(2, 1), (0, 3)]
    whole = loaded.matrix(pictures, TEXTS)
    np.testing.assert_allclose(
        loaded.score_pairs(pictures, TEXTS, pairs), [whole[i, j] for i, j in pairs], rtol=0, atol=ROUNDING
    )
    assert loaded.count_tokens(["a dog"]) == loaded.scorer.count_tokens(["a dog"])
    assert [index for index, _ in loaded.rank(pictures[0], TEXTS[:3])] == np.argsort(-whole[0, :3]).tolist()
    assert len(load_baseline(name, model=model).describe()["timesteps"]) == 50
    for options, kind, said in (
        ({"model": model, "device": "cpu"}, ConfigError, "device cannot be"),
        ({"model": model, "steps": 0}, ConfigError, "steps is 0"),
        ({"model": model, "colour": 1}, ConfigError, "colour"),
        ({"model": tiny / "unet"}, CheckpointError, "unet"),
        (
            {"model": model, "steps": 10, "stages": (2, 4)},
            ConfigError,
            "stages ends with 4, and the score has 10",
        ),
    ):
        with pytest.raises(kind, match=said):
            load_baseline(name, **options)


@pytest.mark.parametrize("name", ["diffusion-classifier", "diffusion-itm"])
def test_staged_scores_are_those_of_all_timesteps(
    name: str, model: Scorer, pictures: list[np.ndarray]
) -> None:
    whole = load_baseline(name, model=model, steps=8).matrix(pictures, TEXTS)
    staged = load_baseline(name, model=model, stages=(2, 8), keep=0.3)
    assert not hasattr(staged, "score_pairs")
    scores, complete = staged.staged(pictures, TEXTS)
    np.testing.assert_allclose(scores[complete], whole[complete], rtol=0, atol=ROUNDING)
    assert scores[~complete].max() < scores[complete].min()
    assert not complete.all() and (complete.sum(axis=1) >= 2).all()  # 0.3 of 4, rounded up
    assert staged.evaluations == 12 * 2 + complete.sum() * 6
    assert staged.evaluations + staged.avoided == 12 * 8
    assert staged.describe()["stages"] == [2, 8] and staged.describe()["keep"] == [0.3]
    again = staged.matrix(pictures, TEXTS)
    np.testing.assert_array_equal(again, scores)


def test_nothing_is_left_out_of_one_stage(model: Scorer, pictures: list[np.ndarray]) -> None:
    staged = load_baseline("diffusion-itm", model=model, stages=(3,))
    whole = load_baseline("diffusion-itm", model=model, steps=3)
    np.testing.assert_allclose(
        staged.matrix(pictures, TEXTS), whole.matrix(pictures, TEXTS), rtol=0, atol=ROUNDING
    )
    assert staged.avoided == 0
    assert staged.matrix([], TEXTS).shape == (0, 4)
