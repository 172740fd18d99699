"""CLIP of open_clip: the same numbers as a direct call."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from discffusion.baselines import load_baseline
from discffusion.errors import CheckpointError

LONG = "a dog " * 30  # 62 tokens, of which the model reads 20


def direct(folder: Path, images: list[np.ndarray], texts: list[str]) -> np.ndarray:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.no_grad():
        pixels = torch.stack([preprocess(Image.fromarray(image)) for image in images])
        image, text = (
            model.eval().encode_image(pixels, normalize=True),
            model.encode_text(tokenizer(texts), normalize=True),
        )
    return (image @ text.T).numpy()


@pytest.fixture(scope="module")
def clip(open_clip_folder: Path) -> Any:
    return load_baseline("open-clip", model=open_clip_folder, batch_size=2)


def test_matrix_is_what_open_clip_gives(
    clip: Any, open_clip_folder: Path, images: list[np.ndarray], texts: list[str]
) -> None:
    found = clip.matrix(images, texts)
    np.testing.assert_allclose(found, direct(open_clip_folder, images, texts), atol=1e-6)
    assert np.ptp(found) > 0.1
    told = clip.describe()
    assert told["baseline"] == "open-clip" and "open_clip_torch" in told["versions"]
    assert told["fingerprint"] == load_baseline("open-clip", model=open_clip_folder).describe()["fingerprint"]


def test_long_texts_are_cut_and_told(
    clip: Any, open_clip_folder: Path, images: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    assert clip.count_tokens(["a dog", LONG, ""]) == [(4, False), (62, True), (2, False)]
    with caplog.at_level(logging.WARNING, "discffusion"):
        found = clip.matrix(images, [LONG])
    assert "1 of 1 texts have more than the 20 tokens" in caplog.text
    np.testing.assert_allclose(found, direct(open_clip_folder, images, [LONG]), atol=1e-6)


def test_other_folders(open_clip_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="lacks open_clip_config.json.*use the baseline 'clip'"):
        load_baseline("open-clip", model=clip_folder)
    config = (open_clip_folder / "open_clip_config.json").read_text()
    (tmp_path / "open_clip_config.json").write_text(config)
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(CheckpointError, match=r"lacks open_clip_model\.safetensors"):
        load_baseline("open-clip", model=tmp_path)
    weights = (open_clip_folder / "open_clip_model.safetensors").read_bytes()
    (tmp_path / "open_clip_model.safetensors").write_bytes(weights[:5000])
    with pytest.raises(CheckpointError, match="cannot be loaded by open_clip"):
        load_baseline("open-clip", model=tmp_path)
    (tmp_path / "open_clip_model.safetensors").write_bytes(weights)
    (tmp_path / "open_clip_config.json").write_text(config.replace('"layers": 2', '"layers": 3'))
    with pytest.raises(CheckpointError, match="cannot be loaded by open_clip"):
        load_baseline("open-clip", model=tmp_path)
