"""Flow matching: the schedule and steps of FlowMatchEulerDiscreteScheduler, scores by the velocity, and the VAE with 16
channels and a shift that comes with it, each with the UNet of Stable Diffusion, which may have been trained so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel
from tests.parity.case import (
    RESOLUTION,
    SCORE_TOLERANCE,
    TENSOR_TOLERANCE,
    TEXTS,
    config,
    load,
    picture,
    relative,
)
from tests.parity.generating import NEGATIVE, PROMPT, check, latents, ours
from tests.parity.test_training import check as check_training
from tests.parity.training_case import TrainingCase

from discffusion import Scorer, _native
from discffusion.bench.reference.model import Reference
from discffusion.errors import CheckpointError, ConfigError

Checkpoint = Callable[..., Path]
CLASS = "FlowMatchEulerDiscreteScheduler"


def as_flow(folder: Path, to: Path, **fields: Any) -> Path:
    """The same networks with a flow's scheduler."""
    to.mkdir()
    for part in folder.iterdir():
        if part.name != "scheduler":
            (to / part.name).symlink_to(part)
    (to / "scheduler").mkdir()
    scheduler = {"_class_name": CLASS, "num_train_timesteps": 1000, **fields}
    (to / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return to


@pytest.fixture(scope="module")
def folder(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_flow(checkpoint("sd15", seed=1), tmp_path_factory.mktemp("flow") / "model", shift=3.0)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(folder)


SCHEDULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "shifted": {"shift": 3.0},
    "shifted back": {"shift": 0.4},
    "to an end": {"shift": 2.5, "shift_terminal": 0.1},
    "short": {"shift": 3.0, "num_train_timesteps": 64},
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(checkpoint: Checkpoint, tmp_path: Path, name: str) -> None:
    """The times of generation to the last digits of float32, those of scores to a millionth."""
    core = load(as_flow(checkpoint("sd15", seed=1), tmp_path / "model", **SCHEDULES[name]))
    scheduler = FlowMatchEulerDiscreteScheduler(**SCHEDULES[name])
    for steps in (2, 4, 28, 50):
        scheduler.set_timesteps(steps)
        theirs = scheduler.timesteps.double().numpy()
        made = _native.core().generate_check(core, {"steps": steps})["timesteps"]
        np.testing.assert_allclose(made, theirs, rtol=2e-7, atol=0)
        scored = core.timesteps(config(steps=steps, noise_range=None))
        np.testing.assert_allclose(scored, theirs, rtol=2e-7, atol=1e-6)
    with pytest.raises(ConfigError, match="steps is 1001"):
        core.timesteps(config(steps=1001, noise_range=None))


def test_times_of_scores_are_uniform(folder: Path) -> None:
    core = load(folder)
    assert core.timesteps(config(steps=6, noise_range=[0.25, 0.75])) == [750, 650, 550, 450, 350, 250]
    assert core.timesteps(config(steps=3, noise_range=[0, 1])) == [1000, 500, 0]
    assert core.timesteps(config(noise_levels=[0.7, 0.1234567])) == [700, 123.4567]
    assert core.timesteps(config(timesteps=[12.5, 1000])) == [12.5, 1000]
    with pytest.raises(ConfigError, match=r"timesteps is 1000.1; .* 0 to 1000"):
        core.timesteps(config(timesteps=[1000.1]))
    assert core.alphas_cumprod() is None


@pytest.mark.parametrize("steps", [4, 28, 50])
def test_pictures(folder: Path, reference: Reference, steps: int) -> None:
    """Of diffusers' scheduler, UNet and VAE; it has no pipeline of a UNet with this scheduler."""
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    scheduler.set_timesteps(steps)
    texts = torch.stack([reference.embed(text) for text in (NEGATIVE, PROMPT)])
    x = latents()
    for t in scheduler.timesteps:
        without, with_text = reference.unet(x.repeat(2, 1, 1, 1), t, texts).sample[:, None]
        x = scheduler.step(without + 3.0 * (with_text - without), t, x).prev_sample
    z = x / reference.vae.config.scaling_factor
    expected = (reference.vae.decode(z).sample / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    scorer = Scorer(folder, device="cpu", dtype="float32")
    check(
        ours(scorer, latents(), steps=steps, negative_prompt=NEGATIVE),
        (255 * expected).round().byte().numpy(),
    )


def velocity_errors(
    reference: Reference, noise: torch.Tensor, t: Any, texts: list[str | None]
) -> list[torch.Tensor]:
    """``ε − z − v`` for each text at a time, of the first picture."""
    z = reference.latent(picture(1), RESOLUTION)
    z_t = reference.noised(z, noise, t)
    predicted = [reference.observe(z_t, t, reference.condition(text)).prediction for text in texts]
    return [noise - z - of_text for of_text in predicted]


@pytest.mark.parametrize("target", ["prediction", "noise"])
@pytest.mark.parametrize("form", ["norm", "mse"])
def test_scores(folder: Path, reference: Reference, target: str, form: str) -> None:
    core, times = load(folder), (1000, 744.25, 101)
    noise = torch.randn(len(times), 4, 16, 16, generator=torch.Generator().manual_seed(5))
    options = config(
        method="denoising",
        denoising_error=form,
        denoising_target=target,
        timesteps=list(times),
        resolution=RESOLUTION,
    )
    rows = core.score_pairs([picture(1)], [TEXTS[0]], np.array([[0, 0]]), options, noise.numpy(), None)
    for found, t, of_time in zip(rows[0], times, noise, strict=True):
        factor = 1 - t / 1000 if target == "noise" else 1
        with_text, without = (
            (factor * error.double()).norm() if form == "norm" else (factor * error.double()).square().mean()
            for error in velocity_errors(reference, of_time, t, [TEXTS[0], None])
        )
        # A score is a difference of two numbers of this size.
        assert found == pytest.approx(float(without - with_text), abs=SCORE_TOLERANCE * float(without), rel=0)


def test_a_prediction_at_a_time_between_whole_ones(folder: Path, reference: Reference) -> None:
    scorer = Scorer(folder, device="cpu", dtype="float32", resolution=RESOLUTION)
    assert scorer.info()["prediction_type"] == "flow_prediction"
    noise = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(5))
    seen = scorer.observe(picture(1), TEXTS[0], 744.25, layers=[], noise=noise)
    assert seen.timestep == 744.25
    (error,) = velocity_errors(reference, noise, 744.25, [TEXTS[0]])
    assert seen.prediction is not None
    expected = noise - torch.tensor(seen.clean) - error
    assert relative(seen.prediction, expected) <= TENSOR_TOLERANCE
    assert relative(seen.latent, 0.25575 * torch.tensor(seen.clean) + 0.74425 * noise) <= TENSOR_TOLERANCE
    with pytest.raises(ConfigError, match="timestep is NaN"):
        scorer.observe(picture(1), TEXTS[0], float("nan"))


@pytest.mark.parametrize(
    "fields", [{"method": "denoising", "unconditional": False}, {"map": "logits"}], ids=str
)
def test_training(folder: Path, reference: Reference, fields: dict[str, Any]) -> None:
    """Loss and gradients of a step at times between whole ones."""
    case = TrainingCase(folder)
    case.__dict__["reference"] = reference
    found = check_training(case, {"loss": "triplet"}, {"timesteps": [261.25, 101.5, 20.75], **fields}, [0, 1])
    assert set(found["timesteps"].ravel()) <= {261.25, 101.5, 20.75}
    assert any(gradient.any() for gradient in found["gradients"].values())
    found = case.trainer({"timesteps": "uniform", "timesteps_per_step": 40}, {}).gradients([0])
    assert found["timesteps"].min() >= 1 and found["timesteps"].max() <= 1000


def test_vae_of_16_channels_with_a_shift(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The fields of Stable Diffusion 3's VAE, with few channels."""
    folder = as_flow(checkpoint("sd15"), tmp_path / "model", shift=3.0)
    torch.manual_seed(0)
    for part, kind, fields in (
        ("unet", UNet2DConditionModel, {"in_channels": 16, "out_channels": 16}),
        (
            "vae",
            AutoencoderKL,
            {
                "latent_channels": 16,
                "scaling_factor": 1.5305,
                "shift_factor": 0.0609,
                "use_quant_conv": False,
                "use_post_quant_conv": False,
                "latents_mean": None,
                "latents_std": None,
                "force_upcast": True,
            },
        ),
    ):
        made = kind.from_config({**kind.load_config(folder / part), **fields})
        (folder / part).unlink()
        made.save_pretrained(folder / part)
    vae, core = AutoencoderKL.from_pretrained(folder / "vae"), load(folder)
    image = picture(3)
    x = torch.tensor(image).permute(2, 0, 1)[None] / 127.5 - 1
    expected = (vae.encode(x).latent_dist.mean - 0.0609) * 1.5305
    found = core.encode_images([image], config(resolution=RESOLUTION))
    assert found.shape == (1, 16, 16, 16)
    assert relative(found, expected) <= TENSOR_TOLERANCE
    decoded = vae.decode(expected / 1.5305 + 0.0609).sample
    assert relative(_native.core().decode_latents(core, expected.numpy()), decoded) <= TENSOR_TOLERANCE
    for field in ("latents_mean", "latents_std"):
        path = folder / "vae" / "config.json"
        fields = json.loads(path.read_text())
        path.write_text(json.dumps({**fields, field: [0.0] * 16}))
        with pytest.raises(CheckpointError, match=field):
            load(folder)
        path.write_text(json.dumps(fields))
