"""The recipe of the small CLIP, in miniature: what it writes can be loaded, and a finished run stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tools.pocket.clip import Recipe, contrastive, main
from tools.pocket.clip_parts import build_clip

from discffusion import load_dataset
from discffusion.baselines import load_baseline


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--out", str(tmp_path), "--pictures", "40", "--steps", "3", "--batch", "8", "--warm-up", "1"]
    main([*options, "--check-items", "2", "--check-every", "2"])
    printed = capsys.readouterr().out
    assert "step 2, split eval, 2 items a subset: subject" in printed and "step 3, split eval" in printed
    weights = (tmp_path / "clip_model" / "model.safetensors").read_bytes()
    (item,) = load_dataset("shapes", split="eval", n=1)
    found = load_baseline("clip", model=tmp_path / "clip_model", device="cpu").matrix(item.images, item.texts)
    assert found.shape == (2, 2) and np.isfinite(found).all()
    main([*options, "--check-items", "2"])
    assert (tmp_path / "clip_model" / "model.safetensors").read_bytes() == weights
    assert "step" not in capsys.readouterr().out


def test_the_rate_rises_and_falls() -> None:
    recipe = Recipe(steps=110, warm_up=10, rate=1.0)
    assert recipe.rate_at(0) == pytest.approx(0.1) and recipe.rate_at(9) == pytest.approx(1.0)
    assert recipe.rate_at(60) == pytest.approx(0.5) and recipe.rate_at(110) == pytest.approx(0.0)


def test_a_picture_of_the_same_caption_is_no_negative() -> None:
    torch.manual_seed(0)
    model = build_clip(10, 8, 9).eval()
    pixels = torch.rand(3, 3, 32, 32) * 2 - 1
    same = torch.tensor([[8, 1, 9], [8, 1, 9], [8, 2, 9]])
    with torch.no_grad():
        found = contrastive(model, pixels, same)
        cosines = model(pixel_values=pixels, input_ids=same).logits_per_image
    # without the pairs of the first two with each other
    kept = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    chances = cosines.exp() * kept
    rows, columns = chances.diagonal() / chances.sum(1), chances.diagonal() / chances.sum(0)
    assert found.item() == pytest.approx(-(rows.log().mean() + columns.log().mean()).item() / 2, rel=1e-5)
