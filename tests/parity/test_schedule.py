"""Timesteps and ᾱ equal to those of diffusers' DDIMScheduler, whatever the configuration file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import DDIMScheduler
from tests.parity.case import SCORE_TOLERANCE, Case, config, load

from discffusion.errors import CheckpointError, ConfigError

STEPS = (1, 4, 10, 50, 1000)
BETAS: tuple[dict[str, Any], ...] = (
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": np.linspace(0.001, 0.015, 1000).tolist()},
)


def load_with(sd15: Case, folder: Path, scheduler: dict[str, Any]) -> Any:
    """The core with the networks of `sd15` and another scheduler file."""
    for part in ("unet", "vae", "text_encoder", "tokenizer", "model_index.json"):
        (folder / part).symlink_to(sd15.folder / part)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler), encoding="utf-8")
    return load(folder)


@pytest.mark.parametrize("betas", BETAS, ids=lambda betas: betas.get("beta_schedule", "trained"))
@pytest.mark.parametrize("zero_snr", [False, True])
def test_alphas(sd15: Case, tmp_path: Path, betas: dict[str, Any], zero_snr: bool) -> None:
    scheduler = {"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": zero_snr, **betas}
    theirs = DDIMScheduler.from_config(scheduler).alphas_cumprod.numpy()
    np.testing.assert_array_equal(load_with(sd15, tmp_path, scheduler).alphas_cumprod(), theirs)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize(("offset", "trained"), [(0, 1000), (1, 1000), (3, 1000), (1, 200)])
def test_timesteps(sd15: Case, tmp_path: Path, spacing: str, offset: int, trained: int) -> None:
    scheduler = {"timestep_spacing": spacing, "steps_offset": offset, "num_train_timesteps": trained}
    core, theirs = load_with(sd15, tmp_path, scheduler), DDIMScheduler.from_config(scheduler)
    for steps in (*STEPS, 2, 3, 7, 30, 100):
        if steps > trained:
            with pytest.raises(ConfigError, match=f"steps.*{steps}"):
                core.timesteps(config(steps=steps, noise_range=None))
            continue
        theirs.set_timesteps(steps)
        assert core.timesteps(config(steps=steps, noise_range=None)) == theirs.timesteps.tolist(), steps


def test_published_files(case: Case) -> None:
    """PNDM's file (1.5, 2.1-base) and DDIM's (2.1) as DDIMScheduler reads them."""
    np.testing.assert_array_equal(case.core.alphas_cumprod(), case.reference.scheduler.alphas_cumprod.numpy())
    for steps in STEPS:
        assert case.core.timesteps(config(steps=steps, noise_range=None)) == case.reference.timesteps(steps)


def test_a_range_is_evenly_spaced_noise_levels(sd15: Case) -> None:
    def of(low: float, high: float, steps: int) -> Any:
        return sd15.core.timesteps(config(noise_range=[low, high], steps=steps))

    assert of(0.29, 0.65, 10) == [650, 610, 570, 530, 490, 450, 410, 370, 330, 290]
    assert of(0.29, 0.65, 4) == [650, 530, 410, 290]
    assert of(0.29, 0.65, 1) == [470]
    assert of(0.0, 1.0, 3) == [999, 500, 0]
    assert of(0.4, 0.4, 1) == [400]
    assert len(set(of(0.29, 0.65, 361))) == 361
    with pytest.raises(ConfigError, match=r"steps is 362; noise_range from 0.29 to 0.65 holds 1 to 361"):
        of(0.29, 0.65, 362)


def test_given_timesteps_and_noise_levels(sd15: Case) -> None:
    assert sd15.core.timesteps(config(timesteps=[3, 999, 0])) == [3, 999, 0]
    levels = {0.2: 200, 0.4: 400, 0.6: 600, 0.8: 800, 0.0: 0, 1.0: 999, 0.4567: 457}
    assert sd15.core.timesteps(config(noise_levels=list(levels))) == list(levels.values())


@pytest.mark.parametrize(("field", "value"), [("beta_schedule", "sigmoid"), ("timestep_spacing", "karras")])
def test_unknown_schedules_are_refused(sd15: Case, tmp_path: Path, field: str, value: str) -> None:
    with pytest.raises(CheckpointError, match=field):
        load_with(sd15, tmp_path, {field: value})


def test_a_timestep_beyond_the_last_is_scored_as_the_last(sd15: Case, tmp_path: Path) -> None:
    """`leading` with an offset of 1 lists T itself in a run of T steps; there is no ᾱ for it, the last one
    stands in."""
    scheduler = {"beta_schedule": "linear", "beta_end": 0.3, "num_train_timesteps": 4, "steps_offset": 1}
    core = load_with(sd15, tmp_path, scheduler)
    case = Case(tmp_path, timesteps=(4, 3, 2, 1))
    assert core.timesteps(config(steps=4, noise_range=None)) == list(case.timesteps)
    options = {"method": "combined", "map": "logits"}
    ours = case.scores([(0, 0)], steps=4, noise_range=None, timesteps=None, **options)
    assert ours == pytest.approx([case.recording.score(0, 0, **options)], rel=SCORE_TOLERANCE, abs=0)
