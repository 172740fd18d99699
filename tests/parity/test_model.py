"""Text embeddings, latents, predictions and every cross-attention map against diffusers and transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from tests.parity.case import TENSOR_TOLERANCE, Case, relative

from discffusion.bench.reference.model import Reference

SITES = [
    "down.0.0",
    "down.0.1",
    "down.1.0",
    "down.1.1",
    "down.2.0",
    "down.2.1",
    "mid.0",
    "up.1.0",
    "up.1.1",
    "up.1.2",
    "up.2.0",
    "up.2.1",
    "up.2.2",
    "up.3.0",
    "up.3.1",
    "up.3.2",
]
MAPS = ("probs", "logits", "cosine")


def check_observation(case: Case, t: int, maps: tuple[str, ...] = MAPS) -> None:
    """The noised latent, the prediction and the maps of all sites at one timestep."""
    noise = case.noise.get(t, case.noise[case.timesteps[0]])
    z = case.reference.latent(case.images[0], case.resolution)
    z_t = case.reference.noised(z, noise, t)
    theirs = case.reference.observe(z_t, t, case.reference.condition(case.texts[0]))
    for kind in maps:
        ours = case.observe(t, kind)
        assert relative(ours["clean"], z) <= TENSOR_TOLERANCE
        assert relative(ours["latent"], z_t) <= TENSOR_TOLERANCE
        errors = {site: relative(ours["maps"][site], theirs.map(site, kind)) for site in SITES}
        errors["prediction"] = relative(ours["prediction"], theirs.prediction)
        wrong = {place: error for place, error in errors.items() if not error <= TENSOR_TOLERANCE}
        assert not wrong, f"{kind} at t = {t}, in forward order: {wrong}"


def test_sites_are_in_forward_order(case: Case) -> None:
    assert case.reference.layer_names() == SITES
    assert list(case.observe(case.timesteps[0])["maps"]) == SITES


@pytest.mark.parametrize("text", ["", "a dog", "Ein Hund, 猫 & a 😀!", "word " * 75, "  two   SPACES \n"])
def test_text_embeddings(case: Case, text: str) -> None:
    ids, content = case.reference.tokens(text)
    ours = case.core.tokenize(text, "silent")
    assert ours["ids"].tolist() == ids[0].tolist()
    assert ours["segments"] == [("clip", (0, 77), (content.start, content.stop))]
    vectors = case.core.encode_texts([text], case.config(truncate="silent"))
    assert relative(vectors[0], case.reference.embed(text)) <= TENSOR_TOLERANCE


def test_several_texts_at_once(case: Case) -> None:
    ours = case.core.encode_texts(list(case.texts), case.config())
    theirs = torch.stack([case.reference.embed(text) for text in case.texts])
    assert relative(ours, theirs) <= TENSOR_TOLERANCE


@pytest.mark.parametrize("resolution", [128, 64, 192])
def test_latents(case: Case, resolution: int) -> None:
    at_size = Case(case.folder, resolution=resolution)
    ours = case.core.encode_images(at_size.images, at_size.config())
    theirs = torch.stack([case.reference.latent(image, resolution) for image in at_size.images])
    assert relative(ours, theirs) <= TENSOR_TOLERANCE


@pytest.mark.parametrize("t", [0, 1, 101, 501, 741, 981, 999])
def test_prediction_and_maps(case: Case, t: int) -> None:
    check_observation(case, t)


@pytest.mark.parametrize("resolution", [64, 96, 192, 200])
def test_other_resolutions(sd15: Case, resolution: int) -> None:
    """Latents of 8, 12, 24 and 25 places a side; 12 and 25 do not halve evenly down to the middle block."""
    case = Case(sd15.folder, resolution=resolution)
    check_observation(case, 501, ("logits",))


@pytest.mark.parametrize("kind", ["sd15", "sd21"])
def test_float16_files_in_float32(kind: str, checkpoint: Callable[..., Path]) -> None:
    """Half-precision weights are widened, not rounded again: as close as float32 files."""
    check_observation(Case(checkpoint(kind, dtype="float16")), 501)


def test_reference_records_what_diffusers_computes(case: Case) -> None:
    """The recording processor changes nothing: in float64 the same prediction as with diffusers' own attention."""
    untouched = UNet2DConditionModel.from_pretrained(case.folder, subfolder="unet").double()
    recording = Reference(case.folder)
    recording.unet.double()
    z_t, conditioning = case.noise[741].double(), case.reference.condition(case.texts[0])
    theirs = untouched(z_t[None], 741, conditioning.context[None].double()).sample[0]
    assert relative(recording.observe(z_t, 741, conditioning).prediction, theirs) <= 1e-12


@pytest.mark.parametrize("resolution", [128, 72])
def test_downsampling_without_padding(sd15: Case, tmp_path: Path, resolution: int) -> None:
    """`downsample_padding: 0` pads on the right and at the bottom alone; sides of 9 do not halve evenly."""
    folder = shutil.copytree(sd15.folder, tmp_path / "model")
    path = folder / "unet" / "config.json"
    config = {**json.loads(path.read_text("utf-8")), "downsample_padding": 0}
    path.write_text(json.dumps(config), encoding="utf-8")
    check_observation(Case(folder, resolution=resolution), sd15.timesteps[0], ("probs",))
