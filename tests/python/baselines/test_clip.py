"""CLIP of transformers: the same numbers as a direct call, whatever the images, batches and pairs."""

from __future__ import annotations

import io
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.python.baselines import tiny as models
from transformers import CLIPModel, CLIPProcessor

from discffusion._identity import identity
from discffusion.baselines import Baseline, load_baseline
from discffusion.errors import CheckpointError, ConfigError, ImageError

LONG = "a dog " * 30  # 62 tokens, of which the model reads 24


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Any:
    return load_baseline("clip", model=clip_folder, device="cpu")


def direct(folder: Path, images: list[np.ndarray], texts: list[str]) -> np.ndarray:
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    given = processor(
        images=[Image.fromarray(image) for image in images], text=texts, return_tensors="pt", padding=True,
        truncation=True, max_length=24,
    )  # fmt: skip
    with torch.no_grad():
        return (model(**given).logits_per_image / model.logit_scale.exp()).numpy()


def test_matrix_is_what_transformers_gives(
    clip: Any, clip_folder: Path, images: list[np.ndarray], texts: list[str]
) -> None:
    found = clip.matrix(images, texts)
    assert found.shape == (3, 4) and found.dtype == np.float64
    np.testing.assert_allclose(found, direct(clip_folder, images, texts), atol=1e-6)
    assert np.ptp(found) > 0.1  # the random model tells them apart


def test_images_as_everywhere(clip: Any, images: list[np.ndarray], tmp_path: Path) -> None:
    path, memory = tmp_path / "a.png", io.BytesIO()
    Image.fromarray(images[0]).save(path)
    Image.fromarray(images[0]).save(memory, "PNG")
    forms = [
        images[0], path, str(path), memory.getvalue(), Image.fromarray(images[0]),
        torch.from_numpy(images[0]).permute(2, 0, 1),
    ]  # fmt: skip
    scores = clip.matrix(forms, ["a red circle"])[:, 0]
    np.testing.assert_allclose(scores, scores[0], atol=1e-6)
    assert clip.matrix(path, "a red circle").shape == (1, 1)


def test_an_unreadable_image_is_named(clip: Any, images: list[np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(ImageError, match="image 1 of 2"):
        clip.matrix([images[0], path], ["a dog"])
    with pytest.raises(ImageError, match="image 1 of 2"):
        clip.matrix([images[0], tmp_path / "none.png"], ["a dog"])


@pytest.mark.parametrize("size", [1, 2, 64])
def test_batches_change_nothing(
    clip: Any, clip_folder: Path, images: list[np.ndarray], texts: list[str], size: int
) -> None:
    other = load_baseline("clip", model=clip_folder, batch_size=size)
    np.testing.assert_allclose(other.matrix(images, texts), clip.matrix(images, texts), atol=1e-6)


def test_pairs_are_cells_of_the_matrix(clip: Any, images: list[np.ndarray], texts: list[str]) -> None:
    whole = clip.matrix(images, texts)
    pairs = [(2, 3), (0, 0), (2, 3), (1, 2)]
    np.testing.assert_allclose(
        clip.score_pairs(images, texts, pairs), [whole[i, j] for i, j in pairs], atol=1e-6
    )
    assert clip.score_pairs(images, texts, []).shape == (0,)
    assert clip.matrix([], texts).shape == (0, 4) and clip.matrix(images, []).shape == (3, 0)
    with pytest.raises(ConfigError, match=r"pair \(3, 0\) names none of 3 images and 4 texts"):
        clip.score_pairs(images, texts, [(3, 0)])


def test_everything_is_embedded_once(
    clip_folder: Path, images: list[np.ndarray], texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = load_baseline("clip", model=clip_folder, device="cpu")
    seen = {"images": 0, "texts": 0}

    def counted(name: str, before: Any) -> Any:
        def after(given: Any) -> Any:
            seen[name] += len(given if name == "images" else given["input_ids"])
            return before(given)

        return after

    monkeypatch.setattr(clip, "_image_features", counted("images", clip._image_features))
    monkeypatch.setattr(clip, "_text_features", counted("texts", clip._text_features))
    clip.matrix([*images, images[0]], [*texts, texts[1]])
    assert seen == {"images": 3, "texts": 4}


def test_the_same_gets_the_very_same_score(clip: Any, images: list[np.ndarray], texts: list[str]) -> None:
    found = clip.matrix([images[0], images[1], images[0]], [texts[0], texts[1], texts[0]])
    assert (found[0] == found[2]).all() and (found[:, 0] == found[:, 2]).all()


def test_a_blind_model_tells_no_images_apart(
    clip_folder: Path, images: list[np.ndarray], texts: list[str]
) -> None:
    blind = load_baseline("clip", model=clip_folder)
    with torch.no_grad():
        blind._model.vision_model.embeddings.patch_embedding.weight.zero_()
    found = blind.matrix(images, texts)
    assert (found == found[:1]).all() and len(set(found[0])) == 4


def test_rank(clip: Any, images: list[np.ndarray], texts: list[str]) -> None:
    row = clip.matrix(images[0], texts)[0]
    ranked = clip.rank(images[0], texts)
    assert [index for index, _ in ranked] == np.argsort(-row).tolist()
    assert len(clip.rank(images, texts[0], top_k=2)) == 2
    with pytest.raises(ConfigError, match="use matrix"):
        clip.rank(images, texts)
    with pytest.raises(ConfigError, match="top_k is 0"):
        clip.rank(images, texts[0], top_k=0)


def test_long_texts_are_cut_and_told(
    clip: Any, clip_folder: Path, images: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    assert clip.count_tokens([LONG, "a dog"]) == [(62, True), (4, False)]
    with caplog.at_level(logging.WARNING, "discffusion"):
        found = clip.matrix(images, [LONG, "a dog"])
    (record,) = caplog.records
    assert "1 of 2 texts have more than the 24 tokens" in record.message and "62 tokens" in record.message
    np.testing.assert_allclose(found, direct(clip_folder, images, [LONG, "a dog"]), atol=1e-6)
    caplog.clear()
    silent = load_baseline("clip", model=clip_folder, truncate="silent")
    np.testing.assert_allclose(silent.matrix(images, [LONG]), found[:, :1], atol=1e-6)
    assert caplog.records == []
    with pytest.raises(ConfigError, match="1 of 1 texts have more"):
        load_baseline("clip", model=clip_folder, truncate="error").matrix(images, LONG)


@pytest.mark.parametrize("texts", [[1], b"a", {"a": 1}, 5, ["\ud800"]])
def test_texts_are_strings(clip: Any, images: list[np.ndarray], texts: Any) -> None:
    with pytest.raises(ConfigError):
        clip.matrix(images, texts)


def test_description(clip: Any, clip_folder: Path, tmp_path: Path) -> None:
    told = clip.describe()
    assert json.loads(json.dumps(told)) == told
    assert told["baseline"] == "clip" and told["model"] == str(clip_folder) and told["deltas"] is None
    assert told["dtype"] == "float32" and told["device"] == "cpu"
    assert set(told["versions"]) == {"discffusion", "torch", "transformers"}
    assert isinstance(clip, Baseline) and "clip" in repr(clip)
    other = load_baseline("clip", model=models.write_clip(tmp_path / "other", seed=1))
    assert other.describe()["fingerprint"] != told["fingerprint"]
    assert load_baseline("clip", model=clip_folder).describe() == told


def test_another_setting_is_another_baseline_and_another_place_is_not(
    clip: Any, clip_folder: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(clip_folder, tmp_path / "moved")
    assert identity(load_baseline("clip", model=moved).describe()) == identity(clip.describe())
    file = moved / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "image_mean": [0.4, 0.4, 0.4]}))
    other = load_baseline("clip", model=moved).describe()
    assert other["parts"]["weights"] == clip.describe()["parts"]["weights"]
    assert identity(other) != identity(clip.describe())


def spoilt(folder: Path, to: Path, file: str, content: str | None = None) -> Path:
    """A copy of a model without a file, or with another in its place."""
    shutil.copytree(folder, to)
    (to / file).unlink()
    if content is not None:
        (to / file).write_text(content, encoding="utf-8")
    return to


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", None, "the configuration"),
        ("config.json", "{", "the configuration"),
        ("config.json", '{"model_type": "bert"}', "of the type 'bert'; expected 'clip'"),
        ("model.safetensors", None, "the weights"),
        ("model.safetensors", "nothing", "the weights"),
        ("preprocessor_config.json", None, "preprocessor_config.json"),
    ],
)
def test_an_incomplete_folder(
    clip_folder: Path, tmp_path: Path, file: str, content: str | None, said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        load_baseline("clip", model=spoilt(clip_folder, tmp_path / "copy", file, content))


def test_weights_that_are_missing_are_not_drawn(clip_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "copy"
    shutil.copytree(clip_folder, copy)
    weights = load_file(copy / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"lacks 1 weights of CLIPModel, such as text_projection\.weight"
    ):
        load_baseline("clip", model=copy)


def test_weights_that_the_model_says_it_can_do_without_may_be_missing(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As transformers has it: by the class's own list. Any other missing weight would be drawn at random."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(clip_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["logit_scale"]  # which no cosine depends on
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks 1 weights of CLIPModel, such as logit_scale"):
        load_baseline("clip", model=folder)
    monkeypatch.setattr(CLIPModel, "_keys_to_ignore_on_load_missing", [r"^logit_scale$"])
    images = [np.zeros((8, 8, 3), np.uint8)]
    found = load_baseline("clip", model=folder, device="cpu").matrix(images, ["a dog"])
    whole = load_baseline("clip", model=clip_folder, device="cpu").matrix(images, ["a dog"])
    np.testing.assert_allclose(found, whole, atol=1e-6)
