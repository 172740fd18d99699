"""BLIP-2's matching head: the same numbers as a direct call, with every image seen once."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.python.baselines import tiny as models
from transformers import Blip2ForImageTextRetrieval, Blip2Processor

from discffusion.baselines import load_baseline
from discffusion.errors import CheckpointError


def direct(folder: Path, image: np.ndarray, text: str) -> float:
    model = Blip2ForImageTextRetrieval.from_pretrained(folder).eval()
    given = Blip2Processor.from_pretrained(folder)(
        images=Image.fromarray(image), text=text, return_tensors="pt"
    )
    with torch.no_grad():
        logits = model(**given, use_image_text_matching_head=True).logits_per_image
    return float(logits.softmax(dim=1)[0, 1])


@pytest.mark.parametrize("image_token", [False, True])
def test_matrix_is_what_transformers_gives(
    tmp_path: Path, images: list[np.ndarray], texts: list[str], image_token: bool
) -> None:
    folder = models.write_blip2(tmp_path / "model", image_token=image_token)
    found = load_baseline("blip2-itm", model=folder, batch_size=5).matrix(images, texts)
    expected = [[direct(folder, image, text) for text in texts] for image in images]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(found) > 0.05


def test_every_image_is_seen_once(blip2_folder: Path, images: list[np.ndarray], texts: list[str]) -> None:
    blip = load_baseline("blip2-itm", model=blip2_folder, batch_size=3)
    seen: list[int] = []
    blip._vision.register_forward_hook(lambda _, __, made: seen.append(len(made.last_hidden_state)))
    found = blip.matrix([*images, images[1]], texts)
    assert sum(seen) == 3
    assert (found[1] == found[3]).all()
    assert blip.describe()["config"]["score"] == "probability of a match"
    assert blip.describe() == load_baseline("blip2-itm", model=blip2_folder).describe()


def test_long_texts_are_cut_and_told(
    blip2_folder: Path, images: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    blip, long = load_baseline("blip2-itm", model=blip2_folder), "a dog " * 30
    assert blip.count_tokens([long, "a dog"]) == [(62, True), (4, False)]
    with caplog.at_level(logging.WARNING, "discffusion"):
        found = blip.matrix(images[0], long)
    assert "more than the 40 tokens" in caplog.text
    assert found[0, 0] == pytest.approx(blip.matrix(images[0], "a dog " * 19)[0, 0], abs=1e-6)


def test_another_model_is_refused(clip_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="of the type 'clip'; expected 'blip-2'"):
        load_baseline("blip2-itm", model=clip_folder)
