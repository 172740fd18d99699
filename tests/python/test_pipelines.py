"""Pipelines of another kind are refused by their class, before any weights are fetched or read."""

from __future__ import annotations

import fnmatch
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from discffusion import CheckpointError, Scorer, hub

UNET, VAE = ["diffusers", "UNet2DConditionModel"], ["diffusers", "AutoencoderKL"]
CLIP, TOKENIZER = ["transformers", "CLIPTextModel"], ["transformers", "CLIPTokenizer"]
BASE = {"unet": UNET, "vae": VAE, "text_encoder": CLIP, "tokenizer": TOKENIZER}
NONE = [None, None]

# as the published repositories' model_index.json has them
OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "StableDiffusionXLImg2ImgPipeline": (
        {
            "requires_aesthetics_score": True,
            "unet": UNET,
            "vae": VAE,
            "text_encoder": NONE,
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer": NONE,
            "tokenizer_2": TOKENIZER,
        },
        "refiner of Stable Diffusion XL (requires_aesthetics_score",
    ),
    "StableDiffusion3Pipeline": (
        {
            "transformer": ["diffusers", "SD3Transformer2DModel"],
            "vae": VAE,
            "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
            "text_encoder_2": NONE,
            "text_encoder_3": NONE,
            "tokenizer": TOKENIZER,
        },
        "no text_encoder_2",
    ),
    "FluxPipeline": (
        {
            "transformer": ["diffusers", "FluxTransformer2DModel"],
            "vae": VAE,
            "text_encoder": CLIP,
            "text_encoder_2": ["transformers", "T5EncoderModel"],
            "tokenizer": TOKENIZER,
        },
        "transformer (FluxTransformer2DModel)",
    ),
    "PixArtAlphaPipeline": (
        {
            "transformer": ["diffusers", "Transformer2DModel"],
            "vae": VAE,
            "text_encoder": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "T5Tokenizer"],
        },
        "transformer (Transformer2DModel)",
    ),
    "IFPipeline": (
        {
            "unet": UNET,
            "text_encoder": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "T5Tokenizer"],
        },
        "no vae",
    ),
    "AltDiffusionPipeline": (
        {**BASE, "text_encoder": ["alt_diffusion", "RobertaSeriesModelWithTransformation"]},
        "text_encoder is RobertaSeriesModelWithTransformation",
    ),
    "AnimateDiffPipeline": (
        {**BASE, "unet": ["diffusers", "UNetMotionModel"], "motion_adapter": ["diffusers", "MotionAdapter"]},
        "motion_adapter",
    ),
    "KandinskyV22Pipeline": ({"unet": UNET, "movq": ["diffusers", "VQModel"]}, "movq (VQModel)"),
    "StableDiffusionImageVariationPipeline": (
        {"unet": UNET, "vae": VAE, "image_encoder": ["transformers", "CLIPVisionModelWithProjection"]},
        "no text_encoder",
    ),
    "HunyuanVideoPipeline": ({}, "another family"),
}
#: channels of the UNet's input
WIDER = {
    "StableDiffusionInpaintPipeline": 9,
    "StableDiffusionDepth2ImgPipeline": 5,
    "StableDiffusionUpscalePipeline": 7,
    "StableDiffusionInstructPix2PixPipeline": 8,
}


def write(folder: Path, kind: str | None, parts: dict[str, Any], channels: int = 4) -> Path:
    """The configurations of a repository, without weights."""
    index = {**({} if kind is None else {"_class_name": kind}), "_diffusers_version": "0.38.0", **parts}
    (folder / "unet").mkdir(parents=True)
    (folder / "vae").mkdir()
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "unet" / "config.json").write_text(json.dumps({"in_channels": channels}))
    (folder / "vae" / "config.json").write_text(json.dumps({"latent_channels": 4}))
    return folder


@pytest.mark.parametrize("kind", OTHERS)
def test_another_kind_in_a_folder(tmp_path: Path, kind: str) -> None:
    parts, reason = OTHERS[kind]
    folder = write(tmp_path / "stable-diffusion-v1-5", kind, parts)  # the name says nothing
    with pytest.raises(CheckpointError) as caught:
        Scorer(folder)
    message = str(caught.value)
    assert f"is a {kind}, which is not supported" in message
    assert reason in message
    assert "Supported are Stable Diffusion 1.x and 2.x" in message


@pytest.mark.parametrize("kind", WIDER)
def test_a_network_of_more_channels(tmp_path: Path, kind: str) -> None:
    folder = write(tmp_path / "model", kind, BASE, WIDER[kind])
    with pytest.raises(CheckpointError, match=rf"is a {kind}, .*takes {WIDER[kind]} channels"):
        Scorer(folder)


@pytest.mark.parametrize("kind", [*OTHERS, *WIDER])
def test_no_weights_are_fetched(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    parts = OTHERS[kind][0] if kind in OTHERS else BASE
    there = write(tmp_path / "hub", kind, parts, WIDER.get(kind, 4))
    weights = ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")
    for name in weights:
        (there / name).parent.mkdir(exist_ok=True)
        (there / name).write_bytes(b"gigabytes")
    fetched: list[str] = []

    def download(name: str, *, allow_patterns: list[str], local_files_only: bool = False, **_: Any) -> str:
        if local_files_only:
            raise FileNotFoundError("not in the cache")
        for file in (path for path in there.rglob("*") if path.is_file()):
            relative = file.relative_to(there).as_posix()
            if any(fnmatch.fnmatch(relative, pattern) for pattern in allow_patterns):
                (tmp_path / "cache" / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, tmp_path / "cache" / relative)
                fetched.append(relative)
        return str(tmp_path / "cache")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(
        CheckpointError, match=f"'owner/stable-diffusion' is a {kind}, which is not supported"
    ):
        hub.resolve("owner/stable-diffusion")
    assert "model_index.json" in fetched
    assert not any(name.endswith(".safetensors") for name in fetched)


def test_the_cache_is_asked_too(tmp_path: Path) -> None:
    from tests.python.test_hub import COMMIT

    repo = tmp_path / "models--owner--model"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    write(repo / "snapshots" / COMMIT, "FluxPipeline", OTHERS["FluxPipeline"][0])
    with pytest.raises(CheckpointError, match="is a FluxPipeline"):
        hub.resolve("owner/model", cache_dir=tmp_path, local_files_only=True)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (
            "StableDiffusionPipeline",
            {"image_encoder": NONE, "text_encoder_2": NONE, "requires_safety_checker": True},
        ),
        ("StableDiffusionImg2ImgPipeline", {}),
        ("StableDiffusionInpaintPipeline", {}),  # of a network that takes the latent alone
        ("StableDiffusionControlNetPipeline", {"controlnet": ["diffusers", "ControlNetModel"]}),
        ("LatentConsistencyModelPipeline", {}),
        ("OwnersPipeline", {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}),
        (None, {}),
    ],
)
def test_the_same_parts_are_taken(tiny: Path, tmp_path: Path, kind: str | None, more: dict[str, Any]) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    index = {**({} if kind is None else {"_class_name": kind}), **BASE, **more}
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(index))
    image = [[[200, 10, 10]] * 16] * 16
    import numpy as np

    picture = np.array(image, dtype=np.uint8)
    with (
        Scorer(tmp_path / "model", device="cpu", steps=1) as scorer,
        Scorer(tiny, device="cpu", steps=1) as same,
    ):
        assert scorer.score(picture, "a") == same.score(picture, "a")
