"""Stable Diffusion XL at its real size: 2,567 million parameters in the UNet, against diffusers.

Images of 256 pixels: the weights are all there, and a pass takes seconds. The reference leaves memory before the core
is loaded; both compute in float32, from files in float16, as most are published.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fixtures.make_checkpoint import write_checkpoint
from tests.parity.case import SCORE_TOLERANCE, TENSOR_TOLERANCE, TEXTS, Case, picture, relative
from tests.parity.generating import check, latents, ours, theirs
from tests.parity.test_xl import pipeline

from discffusion import Scorer
from discffusion.bench.reference.scores import Recording

pytestmark = pytest.mark.slow

RESOLUTION = 256
# Every layer at every timestep; the map takes turns, since all three come from the same queries and keys.
MAPS = {981: "probs", 741: "logits", 501: "cosine", 261: "probs", 1: "logits"}
SCORED = (741, 261)
OPTIONS = {"method": "combined", "map": "logits", "heads": "attributed"}
# GiB: 10.3 GB of weights in the UNet and 3.3 GB in the text encoders in float32, and room to compute in.
NEEDED = 19
GENERATED = {"steps": 2, "guidance_scale": 5.0}


@dataclass
class Expected:
    """What the reference says."""

    parameters: dict[str, int]
    condition: Any
    latent: torch.Tensor
    noised: dict[int, torch.Tensor]
    seen: dict[int, Any]
    score: float
    image: np.ndarray
    layers: list[str]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """The checkpoint, 7 GB, gone when the tests are."""
    if free_memory() < NEEDED:
        pytest.skip(f"needs {NEEDED} GiB of free memory, and there are {free_memory():.1f}")
    folder = tmp_path_factory.mktemp("full_xl")
    write_checkpoint(folder, "sdxl", "full", dtype="float16")
    # What the network is told of an image's size is the model's own.
    path = folder / "unet" / "config.json"
    config = {**json.loads(path.read_text("utf-8")), "sample_size": RESOLUTION // 8}
    path.write_text(json.dumps(config), encoding="utf-8")
    before = torch.get_num_threads()
    torch.set_num_threads(torch.multiprocessing.cpu_count())
    yield Case(
        folder, resolution=RESOLUTION, timesteps=tuple(MAPS), texts=TEXTS[:1], images=[picture(1, RESOLUTION)]
    )
    torch.set_num_threads(before)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    return latents(1, RESOLUTION // 8, RESOLUTION // 8)


@pytest.fixture(scope="module")
def expected(full: Case, noise: torch.Tensor) -> Expected:
    with torch.no_grad():
        reference, drawn = full.reference, full.noise
        z, condition = reference.latent(full.images[0], RESOLUTION), reference.condition(full.texts[0])
        noised = {t: reference.noised(z, drawn[t], t) for t in MAPS}
        scored = Recording(reference, [z], full.texts, {t: drawn[t] for t in SCORED})
        seen = {t: reference.observe(noised[t], t, condition) for t in MAPS if t not in SCORED}
        seen |= {t: scored.pairs[0, 0, t] for t in SCORED}
        networks = {"unet": reference.unet, "text_encoder": reference.encoders[0].model}
        networks["text_encoder_2"] = reference.encoders[1].model
        found = Expected(
            {part: sum(w.numel() for w in network.parameters()) for part, network in networks.items()},
            condition,
            z,
            noised,
            seen,
            scored.score(0, 0, **OPTIONS),
            theirs(pipeline_of(reference, full), noise, num_inference_steps=2, guidance_scale=5.0),
            reference.layer_names(),
        )
    del full.reference, reference, networks, scored
    gc.collect()
    return found


def free_memory() -> float:
    """What the system can give, GiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20


def pipeline_of(reference: Any, full: Case) -> Any:
    """diffusers' pipeline of the reference's own networks, so that they are in memory once."""
    return pipeline(
        full.folder,
        unet=reference.unet,
        vae=reference.vae,
        text_encoder=reference.encoders[0].model,
        text_encoder_2=reference.encoders[1].model,
    )


def test_size(full: Case, expected: Expected) -> None:
    """2,567,463,684 in the UNet, 123,060,480 and 694,659,840 in the text encoders, as published."""
    assert expected.parameters == {
        "unet": 2_567_463_684,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    }
    found = json.loads(full.core.info())["num_parameters"]
    assert {part: found[part] for part in expected.parameters} == expected.parameters
    assert len(expected.layers) == 70


def test_encoders(full: Case, expected: Expected) -> None:
    texts, config = list(full.texts), full.config()
    assert relative(full.core.encode_texts(texts, config)[0], expected.condition.context) <= TENSOR_TOLERANCE
    assert relative(full.core.encode_pooled(texts, config)[0], expected.condition.pooled) <= TENSOR_TOLERANCE
    assert relative(full.core.encode_images(full.images, config)[0], expected.latent) <= TENSOR_TOLERANCE


@pytest.mark.parametrize(("t", "map"), MAPS.items())
def test_prediction_and_all_maps(full: Case, expected: Expected, t: int, map: str) -> None:
    seen, reference = full.observe(t, map), expected.seen[t]
    assert list(seen["maps"]) == expected.layers
    assert relative(seen["latent"], expected.noised[t]) <= TENSOR_TOLERANCE
    errors = {layer: relative(seen["maps"][layer], reference.map(layer, map)) for layer in expected.layers}
    errors["prediction"] = relative(seen["prediction"], reference.prediction)
    wrong = {place: error for place, error in errors.items() if not error <= TENSOR_TOLERANCE}
    assert not wrong, f"{map} at t = {t}, in forward order: {wrong}"


def test_score(full: Case, expected: Expected) -> None:
    scored = Case(full.folder, resolution=RESOLUTION, timesteps=SCORED, texts=full.texts, images=full.images)
    scored.core, scored.noise = full.core, {t: full.noise[t] for t in SCORED}
    found = scored.scores([(0, 0)], **OPTIONS)
    assert found == pytest.approx([expected.score], rel=SCORE_TOLERANCE, abs=0)


def test_image(full: Case, expected: Expected, noise: torch.Tensor) -> None:
    del full.core  # its weights, before they are read again
    gc.collect()
    check(ours(Scorer(full.folder, device="cpu", dtype="float32"), noise, **GENERATED), expected.image)
