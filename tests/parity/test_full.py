"""Stable Diffusion 2.1-base at its real size: 865.9 million parameters, 64×64 latents, against diffusers.

A pass takes ten seconds and more on two cores, so each is made once. The reference leaves memory before
the core is loaded.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from tests.fixtures.make_checkpoint import write_checkpoint
from tests.parity.case import SCORE_TOLERANCE, TENSOR_TOLERANCE, TEXTS, Case, picture, relative
from tests.parity.test_model import SITES

from discffusion.bench.reference.model import Observation
from discffusion.bench.reference.scores import Recording

pytestmark = pytest.mark.slow

# Every site at every timestep; the map takes turns, since all three come from the same queries and keys.
MAPS = {981: "probs", 741: "logits", 501: "cosine", 261: "probs", 1: "logits"}
SCORED = (741, 261)
OPTIONS = {"method": "combined", "map": "logits", "heads": "attributed"}


@dataclass
class Expected:
    """What the reference says."""

    parameters: int
    context: torch.Tensor
    latent: torch.Tensor
    noised: dict[int, torch.Tensor]
    seen: dict[int, Observation]
    score: float


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """The checkpoint, 5 GB, gone when the tests are."""
    folder = tmp_path_factory.mktemp("full")
    write_checkpoint(folder, "sd21", "full")
    before = torch.get_num_threads()
    torch.set_num_threads(torch.multiprocessing.cpu_count())
    yield Case(folder, resolution=512, timesteps=tuple(MAPS), texts=TEXTS[:1], images=[picture(1, 512)])
    torch.set_num_threads(before)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def expected(full: Case) -> Expected:
    with torch.no_grad():
        reference, noise = full.reference, full.noise
        z, conditioning = reference.latent(full.images[0], 512), reference.condition(full.texts[0])
        noised = {t: reference.noised(z, noise[t], t) for t in MAPS}
        scored = Recording(reference, [z], full.texts, {t: noise[t] for t in SCORED})
        seen = {t: reference.observe(noised[t], t, conditioning) for t in MAPS if t not in SCORED}
        seen |= {t: scored.pairs[0, 0, t] for t in SCORED}
    parameters = sum(weight.numel() for weight in reference.unet.parameters())
    del full.reference, reference
    gc.collect()
    return Expected(parameters, conditioning.context, z, noised, seen, scored.score(0, 0, **OPTIONS))


def test_size(full: Case, expected: Expected) -> None:
    """865.9 million, as every description of the model says; 865,910,724 to the last one."""
    assert expected.parameters == 865_910_724
    assert json.loads(full.core.info())["num_parameters"]["unet"] == 865_910_724


def test_encoders(full: Case, expected: Expected) -> None:
    vectors = full.core.encode_texts(list(full.texts), full.config())
    assert relative(vectors[0], expected.context) <= TENSOR_TOLERANCE
    latents = full.core.encode_images(full.images, full.config())
    assert relative(latents[0], expected.latent) <= TENSOR_TOLERANCE


@pytest.mark.parametrize(("t", "map"), MAPS.items())
def test_prediction_and_maps(full: Case, expected: Expected, t: int, map: str) -> None:
    ours, theirs = full.observe(t, map), expected.seen[t]
    assert relative(ours["latent"], expected.noised[t]) <= TENSOR_TOLERANCE
    errors = {site: relative(ours["maps"][site], theirs.map(site, map)) for site in SITES}
    errors["prediction"] = relative(ours["prediction"], theirs.prediction)
    wrong = {place: error for place, error in errors.items() if not error <= TENSOR_TOLERANCE}
    assert not wrong, f"{map} at t = {t}, in forward order: {wrong}"


def test_score(full: Case, expected: Expected) -> None:
    scored = Case(full.folder, resolution=512, timesteps=SCORED, texts=full.texts, images=full.images)
    scored.core, scored.noise = full.core, {t: full.noise[t] for t in SCORED}
    ours = scored.scores([(0, 0)], **OPTIONS)
    assert ours == pytest.approx([expected.score], rel=SCORE_TOLERANCE, abs=0)
