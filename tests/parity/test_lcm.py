"""Latent consistency models against LCMScheduler and LatentConsistencyModelPipeline; scores and training of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LCMScheduler
from tests.parity.case import SCORE_TOLERANCE, TENSOR_TOLERANCE, Case, relative
from tests.parity.generating import check, latents, ours, pipeline, step_noise, theirs, with_scheduler
from tests.parity.test_training import check as check_training
from tests.parity.training_case import TrainingCase

from discffusion import Scorer, _native
from discffusion.errors import ConfigError


@pytest.fixture(scope="module")
def folder(checkpoint: Callable[..., Path]) -> Path:
    return checkpoint("lcm", seed=1)


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    return Scorer(folder, device="cpu", dtype="float32")


def timesteps(scorer: Scorer, steps: int) -> list[int]:
    checked = _native.core().generate_check(scorer._model, {"steps": steps})
    found: list[int] = checked["timesteps"]
    return found


@pytest.mark.parametrize("fields", [{}, {"original_inference_steps": 100}, {"original_inference_steps": 7}])
def test_schedule(folder: Path, tmp_path: Path, fields: dict[str, int]) -> None:
    """Every number of steps that there is."""
    scorer = Scorer(with_scheduler(folder, tmp_path / "model", **fields), device="cpu")
    scheduler = LCMScheduler.from_pretrained(tmp_path / "model", subfolder="scheduler")
    most = scheduler.config.original_inference_steps
    for steps in range(1, most + 1):
        scheduler.set_timesteps(steps)
        assert timesteps(scorer, steps) == scheduler.timesteps.tolist(), steps
    with pytest.raises(ConfigError, match=f"1 to {most}"):
        timesteps(scorer, most + 1)


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
def test_pictures(folder: Path, scorer: Scorer, steps: int) -> None:
    noise = latents()
    expected = theirs(
        pipeline(folder),
        noise,
        num_inference_steps=steps,
        guidance_scale=8.5,
        generator=torch.Generator().manual_seed(7),
    )
    made = ours(scorer, noise, steps=steps, guidance_scale=None, noise=step_noise(steps, noise.shape))
    check(made, expected)


@pytest.mark.parametrize(
    "fields", [{"prediction_type": "v_prediction"}, {"timestep_scaling": 0.001}], ids=str
)
def test_scheduler_fields(folder: Path, tmp_path: Path, fields: dict[str, Any]) -> None:
    """The second makes the boundary conditions count."""
    other = with_scheduler(folder, tmp_path / "model", **fields)
    noise = latents()
    expected = theirs(
        pipeline(other),
        noise,
        num_inference_steps=4,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(7),
    )
    scorer = Scorer(other, device="cpu", dtype="float32")
    check(ours(scorer, noise, steps=4, guidance_scale=5.0, noise=step_noise(4, noise.shape)), expected)


def test_scores(folder: Path) -> None:
    """With the guidance scale of the pipeline, 8.5."""
    case = Case(folder)
    z, t = case.reference.latent(case.images[0], case.resolution), case.timesteps[0]
    z_t = case.reference.noised(z, case.noise[t], t)
    expected = case.reference.observe(z_t, t, case.reference.condition(case.texts[0]))
    assert relative(case.observe(t)["prediction"], expected.prediction) <= TENSOR_TOLERANCE
    other = case.reference.unet(z_t[None], t, case.reference.embed(case.texts[0])[None]).sample[0]
    assert relative(other, expected.prediction) > 0.01, "the guidance scale does nothing"
    options: dict[str, Any] = {"method": "combined", "map": "logits"}
    assert case.scores([(0, 0), (1, 1)], **options) == pytest.approx(
        [case.recording.score(i, i, **options) for i in (0, 1)], rel=SCORE_TOLERANCE, abs=0
    )


def test_training(folder: Path) -> None:
    """Loss and gradients of a step."""
    found = check_training(
        TrainingCase(folder), {"loss": "triplet", "recompute": True}, {"map": "logits"}, [0, 1]
    )
    assert any(gradient.any() for gradient in found["gradients"].values())
