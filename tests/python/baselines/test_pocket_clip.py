"""The small CLIP that comes with the package."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from tools.pocket.clip_report import measure
from transformers import CLIPModel, CLIPProcessor

from discffusion import load_dataset
from discffusion.baselines import load_baseline
from discffusion.pocket import CLIP_DIR


def test_it_is_small_and_published_as_any_other() -> None:
    assert sum(path.stat().st_size for path in CLIP_DIR.iterdir()) < 3_000_000
    model, told = CLIPModel.from_pretrained(CLIP_DIR, output_loading_info=True, local_files_only=True)
    assert not any(told.values())
    assert model.dtype == torch.float16
    processor = CLIPProcessor.from_pretrained(CLIP_DIR, local_files_only=True)
    (item,) = load_dataset("shapes", split="eval", n=1)
    given = processor(images=list(item.images), text=list(item.texts), return_tensors="pt", padding=True)
    with torch.no_grad():
        logits = model.float()(**given).logits_per_image
    found = load_baseline("clip", model="pocket", device="cpu").matrix(item.images, item.texts)
    np.testing.assert_allclose(found, (logits / model.logit_scale.exp()).detach().numpy(), atol=1e-6)


def test_it_knows_the_world() -> None:
    shares = measure(CLIP_DIR, "eval", n=40, seed=7)
    for subset in ("subject", "object", "attribute", "predicate"):
        assert shares[subset] > 0.85, shares
    assert shares["winoground"] > 0.7, shares


def test_larger_pictures_are_brought_to_its_size() -> None:
    (item,) = load_dataset("shapes", split="eval", n=1)
    (large,) = load_dataset("shapes", split="eval", n=1, image_size=128)
    clip = load_baseline("clip", model="pocket", device="cpu")
    small = clip.matrix(item.images, item.texts)
    np.testing.assert_allclose(clip.matrix(large.images, large.texts), small, atol=0.1)
    assert clip.describe()["model"] == "pocket"


def test_the_card_tells_its_figures() -> None:
    card = (CLIP_DIR / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \(([\d.]+)-([\d.]+)\) \|$", card, re.MULTILINE)
    assert [row[0] for row in rows] == ["subject", "object", "attribute", "predicate", "winoground"]
    assert all(float(low) <= float(value) <= float(high) for _, value, low, high in rows)


@pytest.mark.slow
def test_the_card_can_be_measured_again() -> None:
    card = (CLIP_DIR / "README.md").read_text(encoding="utf-8")
    for subset, share in measure(CLIP_DIR, "test", n=400, seed=31415).items():
        assert f"| {subset} | {100 * share:.1f} (" in card
