"""Bad input ends in the typed error that is promised for it, which is also the builtin a caller expects.

Every message names what was given. None of these may panic, abort or hang.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.python import bad_files as bad

from discffusion import (
    CheckpointError,
    ConfigError,
    DatasetError,
    DeviceError,
    DiscffusionError,
    ImageError,
    ScoreConfig,
    Scorer,
    load_dataset,
)

OK = np.full((8, 8, 3), 100, np.uint8)
UNET, TEXT = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"
JPEG, PNG = bad.encoded("JPEG"), bad.encoded("PNG")

# what is given as the image, and a pattern of the message
IMAGES: dict[str, tuple[Any, str]] = {
    "missing path": ("no/such/file.png", "no/such/file.png"),
    "path with a zero byte": ("a\0b.png", "cannot be read|no file"),
    "folder": (".", "folder"),
    "endless device": ("/dev/zero", "not a regular file"),
    "URL": ("https://example.com/a.png", "download"),
    "data URL": ("data:image/png;base64,AAAA", "URL"),
    "no bytes": (b"", "empty"),
    "text file": (b"this is not a picture at all", "28 bytes .* no image known"),
    "random bytes": (np.random.default_rng(1).bytes(4096), "4096 bytes .* no image known"),
    "truncated PNG": (PNG[: len(PNG) // 2], "PNG .* unexpected end"),
    "truncated JPEG header": (JPEG[:40], "JPG image cannot be decoded"),
    "truncated JPEG": (JPEG[: len(JPEG) - 40], "JPG image is truncated"),
    "PNG signature only": (PNG[:8], "unexpected end"),
    "corrupt PNG": (bad.flipped(PNG, 60), "PNG image cannot be decoded"),
    "huge dimensions in a small file": (bad.png_bomb(100_000, 100_000), "100000 x 100000 pixels"),
    "largest dimensions a PNG can name": (bad.png_bomb(2**31 - 1, 2**31 - 1), "limit"),
    "zero-sized PNG": (bad.png_bomb(0, 0), "dimensions"),
    "PNG of too few pixels": (bad.png_bomb(500, 500), "PNG .* not have enough data"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>', "no image known"),
    "no pixels": (np.zeros((0, 8, 3), np.uint8), "empty"),
    "one axis": (np.zeros(8, np.uint8), "one image"),
    "five axes": (np.zeros((1, 1, 1, 8, 8), np.uint8), "one image"),
    "channels first": (np.zeros((3, 8, 8), np.uint8), r"transpose\(1, 2, 0\)"),
    "two channels": (np.zeros((8, 8, 2), np.uint8), "1, 3 or 4 channels"),
    "signed integers": (np.zeros((8, 8, 3), np.int64), "int64"),
    "booleans": (np.zeros((8, 8, 3), np.bool_), "bool"),
    "text array": (np.full((8, 8), "a"), "U1"),
    "complex numbers": (np.zeros((8, 8, 3), np.complex64), "complex64"),
    "NaN": (np.full((8, 8, 3), np.nan, np.float32), "NaN"),
    "infinity": (np.full((8, 8, 3), np.inf), "infinity"),
    "floats up to 255": (np.linspace(0, 255, 192).reshape(8, 8, 3), "from 0 to 255"),
    "floats from -1": (np.linspace(-1, 1, 192).reshape(8, 8, 3), "from -1 to 1"),
    "tensor with channels last": (torch.zeros(8, 8, 3), r"permute\(2, 0, 1\)"),
    "tensor of integers": (torch.zeros(3, 8, 8, dtype=torch.int32), "int32"),
    "tensor of NaN": (torch.full((3, 8, 8), float("nan")), "NaN"),
    "number": (3, "int is not an image"),
    "nothing": (None, "NoneType is not an image"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images(name: str, scorer: Scorer) -> None:
    image, pattern = IMAGES[name]
    with pytest.raises(ImageError, match=pattern) as caught:
        scorer.score(image, "a text")
    assert isinstance(caught.value, ValueError)


def test_text_mode_file(scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with (tmp_path / "a.txt").open() as file, pytest.raises(ImageError, match="binary mode"):
        scorer.score(file, "a text")


# what is called, and a pattern of the message
CALLS: dict[str, tuple[Callable[[Scorer], Any], str]] = {
    "text of bytes": (lambda s: s.score(OK, b"a"), "bytes"),
    "text of None": (lambda s: s.score(OK, None), "NoneType"),
    "list with a number": (lambda s: s.matrix([OK], ["a", 3]), "text 1 is int"),
    "half a surrogate pair": (lambda s: s.score(OK, "a\ud800b"), "Unicode"),
    "over-long text": (lambda s: s.with_config(truncate="error").score(OK, "word " * 500), "77"),
    "no words where only words count": (
        lambda s: s.with_config("attention", tokens="content").score(OK, ""),
        "content",
    ),
    "lengths that differ": (lambda s: s.score([OK, OK], ["a"]), "2 images and 1 texts"),
    "one image, several texts": (lambda s: s.score(OK, ["a", "b"]), "matrix"),
    "several of both in rank": (lambda s: s.rank([OK], ["a"]), "matrix"),
    "top_k of zero": (lambda s: s.rank([OK], "a", top_k=0), "top_k is 0"),
    "no images to encode": (lambda s: s.encode_images([]), "no images"),
    "noise of another shape": (lambda s: s.score(OK, "a", noise=np.zeros((2, 4, 3, 3), np.float32)), "noise"),
    "noise without steps": (lambda s: s.score(OK, "a", noise=np.zeros((4, 8, 8), np.float32)), "steps"),
    "noise of NaN": (lambda s: s.score(OK, "a", noise=np.full((2, 4, 8, 8), np.nan)), "NaN"),
    "noise of integers": (lambda s: s.score(OK, "a", noise=np.zeros((2, 4, 8, 8), int)), "int64"),
    "timestep too large": (lambda s: s.observe(OK, "a", timestep=1000), "1000"),
    "negative timestep": (lambda s: s.observe(OK, "a", timestep=-1), "-1"),
    "timestep of text": (lambda s: s.observe(OK, "a", timestep="x"), "timestep"),  # type: ignore[arg-type]
    "unknown site": (lambda s: s.observe(OK, "a", layers=["attic.0"]), "attic.0"),
    "unknown map": (lambda s: s.observe(OK, "a", map="treasure"), "treasure"),
    "layers that the model lacks": (lambda s: s.with_config(layers=["up.9.9"]).score(OK, "a"), "up.9.9"),
    "more layers than there are": (lambda s: s.with_config(layers="last(99)").score(OK, "a"), "99"),
    "heads that the model lacks": (lambda s: s.with_config(heads=[99]).score(OK, "a"), "99"),
    "timestep beyond training": (lambda s: s.with_config(timesteps=[5000]).score(OK, "a"), "5000"),
    "more steps than training": (lambda s: s.with_config(steps=1001).score(OK, "a"), "1001"),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str, scorer: Scorer) -> None:
    call, pattern = CALLS[name]
    with pytest.raises(ConfigError, match=pattern) as caught:
        call(scorer)
    assert isinstance(caught.value, ValueError)


# options, each wrong in one way; the message names the option
OPTIONS: list[dict[str, Any]] = [
    {"method": "magic"},
    {"method": 3},
    {"denoising_weight": -1},
    {"denoising_weight": float("nan")},
    {"map": "Probs"},
    {"pooling": ""},
    {"lambda_": 0},
    {"lambda_": float("inf")},
    {"tokens": "some"},
    {"layers": "last(0)"},
    {"layers": []},
    {"layers": "sideways"},
    {"layers": [1, 2]},
    {"heads": []},
    {"heads": [-1]},
    {"attribution_steps": 0},
    {"attribution": "x"},
    {"steps": 0},
    {"steps": 2.5},
    {"steps": True},
    {"timesteps": []},
    {"timesteps": [-1]},
    {"timesteps": ["a"]},
    {"noise_levels": [1.5]},
    {"noise_levels": []},
    {"steps": 2, "timesteps": [1]},
    {"resolution": 0},
    {"resolution": 10**9},
    {"via": -8},
    {"resize": "stretch"},
    {"batch_size": 0},
    {"batch_size": "big"},
    {"truncate": True},
    {"seed": -1},
    {"seed": 2**63},
    {"seed": {1}},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="|".join(options)) as caught:
        ScoreConfig(**options)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("make", [ScoreConfig, Scorer, lambda **o: ScoreConfig.from_dict(o)])
def test_unknown_options(make: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"unknown option 'stesp' .did you mean 'steps'"):
        make(stesp=3)


# what is wrong with the model, and a pattern of the message
MODELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no index": (bad.remove("model_index.json"), "model_index.json"),
    "no unet": (bad.remove("unet"), "unet"),
    "no weights": (bad.remove(UNET), "unet"),
    "no configuration": (bad.remove("vae/config.json"), "vae.config.json"),
    "no tokenizer": (bad.remove("tokenizer"), "tokenizer"),
    "no scheduler": (bad.remove("scheduler"), "scheduler"),
    "configuration is not JSON": (bad.write("unet/config.json", b"{"), "unet.config.json"),
    "configuration is binary": (bad.write("unet/config.json", bytes(range(256))), "unet.config.json"),
    "vocabulary is not JSON": (bad.write("tokenizer/vocab.json", b"["), "vocab.json"),
    "truncated weights": (bad.cut(UNET), "diffusion_pytorch_model.safetensors"),
    "empty weights": (bad.write(TEXT, b""), "model.safetensors"),
    "weights with an absurd header": (bad.write(TEXT, b"\xff" * 64), "model.safetensors"),
    "weights that are a pickle": (bad.write(TEXT, b"\x80\x04K\x01."), "model.safetensors"),
    "a weight missing": (bad.weights(UNET, lambda w: w.pop("conv_in.bias")), "conv_in.bias"),  # type: ignore[arg-type]
    "a weight left over": (bad.weights(UNET, lambda w: w.update(extra=np.ones(2, np.float32))), "extra"),
    "a weight of another shape": (
        bad.weights(UNET, lambda w: w.update({"conv_in.bias": np.ones(3, np.float32)})),
        "conv_in.bias",
    ),
    "another class of network": (
        bad.field("unet/config.json", _class_name="Transformer2DModel"),
        "Transformer2DModel",
    ),
    "another beta schedule": (bad.field("scheduler/scheduler_config.json", beta_schedule="spiral"), "spiral"),
    "channels of text": (bad.field("unet/config.json", block_out_channels="many"), "block_out_channels"),
    "negative channels": (bad.field("unet/config.json", in_channels=-4), "in_channels"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, tiny: Path, tmp_path: Path) -> None:
    spoil, pattern = MODELS[name]
    model = bad.spoilt(tiny, tmp_path, spoil)
    with pytest.raises(CheckpointError, match=pattern) as caught:
        Scorer(model)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("given", ["no/such/folder", "/no/such/folder", "", 3, "a b/c", "model.ckpt", "../x"])
def test_models_that_are_none(given: Any) -> None:
    with pytest.raises(CheckpointError, match=re.escape(repr(given)) if isinstance(given, str) else "int"):
        Scorer(given)


def test_single_files_are_explained(tmp_path: Path) -> None:
    for name in ("model.safetensors", "model.ckpt"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(CheckpointError, match=f"{name}' is a single file.*diffusers layout"):
            Scorer(tmp_path / name)


@pytest.mark.parametrize(
    "options",
    [
        {"device": "abacus"},
        {"device": "cuda:99"},
        {"device": 3},
        {"dtype": "int8"},
        {"dtype": torch.int32},
        {"dtype": 16},
    ],
    ids=str,
)
def test_devices(options: dict[str, Any], tiny: Path) -> None:
    with pytest.raises(
        DeviceError, match="|".join(str(value).removeprefix("torch.") for value in options.values())
    ) as caught:
        Scorer(tiny, **options)
    assert isinstance(caught.value, RuntimeError)


@pytest.mark.parametrize("options", [{"name": "nonsense"}, {"name": "shapes", "split": "x"}], ids=str)
def test_datasets(options: dict[str, Any]) -> None:
    with pytest.raises(DatasetError) as caught:
        load_dataset(**options)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, DiscffusionError)


def test_presets_and_json() -> None:
    for make in (
        lambda: ScoreConfig.preset("papr"),
        lambda: ScoreConfig.from_json("{"),
        lambda: ScoreConfig.from_json("[]"),
        lambda: ScoreConfig.make(3),  # type: ignore[arg-type]
        lambda: Scorer(config="papr"),
    ):
        with pytest.raises(ConfigError):
            make()
