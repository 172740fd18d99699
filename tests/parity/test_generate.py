"""Pictures against StableDiffusionPipeline with the same initial noise, and the VAE's decoder against its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.parity import lora_files
from tests.parity.case import TENSOR_TOLERANCE, Case, relative
from tests.parity.generating import (
    NEGATIVE,
    PROMPT,
    check,
    latents,
    ours,
    pipeline,
    step_noise,
    theirs,
    with_scheduler,
)

from discffusion import Scorer, _native

Checkpoint = Callable[..., Path]


def both(folder: Path) -> tuple[Any, Scorer]:
    return pipeline(folder), Scorer(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def sides(checkpoint: Checkpoint) -> Callable[[str], tuple[Any, Scorer]]:
    made: dict[str, tuple[Any, Scorer]] = {}

    def get(kind: str) -> tuple[Any, Scorer]:
        if kind not in made:
            made[kind] = both(checkpoint(kind, seed=1))
        return made[kind]

    return get


@pytest.mark.parametrize("kind", ["sd15", "sd21", "sd21v"])
def test_pictures(sides: Callable[[str], tuple[Any, Scorer]], kind: str) -> None:
    """Two at a time, with a negative prompt."""
    pipe, scorer = sides(kind)
    noise = latents(2)
    expected = theirs(pipe, noise, negative_prompt=NEGATIVE, num_images_per_prompt=2)
    check(ours(scorer, noise, negative_prompt=NEGATIVE), expected)


OPTIONS: dict[str, dict[str, Any]] = {
    "unguided": {"guidance_scale": 1.0},
    "strongly guided": {"guidance_scale": 7.5},
    "rescaled": {"guidance_scale": 7.5, "guidance_rescale": 0.7},
    "one step": {"steps": 1},
    "many steps": {"steps": 30},
    "wide": {"size": (9, 20)},
    "noisy": {"eta": 0.6},
    "as noisy as DDPM": {"eta": 1.0},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(sides: Callable[[str], tuple[Any, Scorer]], name: str) -> None:
    options = dict(OPTIONS[name])
    pipe, scorer = sides("sd15")
    noise = latents(1, *options.pop("size", (16, 16)))
    same = {"steps": 6, **options}
    given = {**same, "num_inference_steps": same["steps"], "generator": torch.Generator().manual_seed(7)}
    given.pop("steps")
    check(
        ours(scorer, noise, **same, noise=step_noise(same["steps"], noise.shape)),
        theirs(pipe, noise, **given),
    )


SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "clipped": ("sd15", {"clip_sample": True, "clip_sample_range": 0.8}),
    "thresholded": (
        "sd21",
        {"thresholding": True, "sample_max_value": 1.5, "dynamic_thresholding_ratio": 0.9},
    ),
    "without offset": ("sd15", {"steps_offset": 0, "clip_sample": None}),
    "to one": ("sd15", {"set_alpha_to_one": True}),
    "linspace": ("sd15", {"timestep_spacing": "linspace"}),
    "zero terminal SNR": ("sd21v", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers(checkpoint: Checkpoint, tmp_path: Path, name: str) -> None:
    kind, fields = SCHEDULERS[name]
    pipe, scorer = both(with_scheduler(checkpoint(kind, seed=1), tmp_path / "model", **fields))
    noise = latents()
    # Uneven steps: what comes next is counted, not looked up.
    check(ours(scorer, noise, steps=7), theirs(pipe, noise, num_inference_steps=7))


def test_lora(sides: Callable[[str], tuple[Any, Scorer]], checkpoint: Checkpoint, tmp_path: Path) -> None:
    pipe = pipeline(checkpoint("sd15", seed=1))
    _, scorer = sides("sd15")
    path = lora_files.write(
        tmp_path / "pytorch_lora_weights.safetensors",
        lora_files.diffusers(lora_files.random_pairs(pipe.unet)),
    )
    noise = latents()
    before = theirs(pipe, noise)
    pipe.load_lora_weights(path.parent, weight_name=path.name)
    expected = theirs(pipe, noise)
    assert np.abs(before.astype(float) - expected).mean() > 10
    adapted = scorer.with_config()
    adapted.load_deltas(path)
    check(ours(adapted, noise), expected)
    adapted.unload_deltas()
    check(ours(adapted, noise), before)


@pytest.mark.parametrize("names", ["old", "new"])
def test_decoder(checkpoint: Checkpoint, names: str) -> None:
    """AutoencoderKL.decode, with either set of names of the attention's weights."""
    case = Case(checkpoint("sd15", vae_keys=names))
    z = latents(2, 9, 13)
    expected = case.reference.vae.decode(z / case.reference.vae.config.scaling_factor).sample
    assert relative(_native.core().decode_latents(case.core, z.numpy()), expected) <= TENSOR_TOLERANCE


def test_prompt_is_read(sides: Callable[[str], tuple[Any, Scorer]]) -> None:
    """What the comparisons above rest on: text, negative text and guidance change a picture."""
    _, scorer = sides("sd15")
    noise = latents()
    seen = [
        ours(scorer, noise, **options).astype(float)
        for options in ({}, {"prompt": NEGATIVE}, {"negative_prompt": PROMPT}, {"guidance_scale": 6.0})
    ]
    assert min(np.abs(a - b).mean() for i, a in enumerate(seen) for b in seen[:i]) > 2
