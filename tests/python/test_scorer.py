"""The scorer: shapes, values that must agree, and what the arguments may be."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from discffusion import ConfigError, DiscffusionError, ScoreConfig, Scorer

TEXTS = ["a red circle", "a blue square left of a dog", "a photo"]


def test_score_matrix_and_rank_agree(scorer: Scorer, picture: np.ndarray) -> None:
    images = [picture, picture[::-1], 255 - picture]
    matrix = scorer.matrix(images, TEXTS)
    assert matrix.shape == (3, 3)
    assert matrix.dtype == np.float64
    assert len(np.unique(matrix)) == 9
    assert isinstance(scorer.score(images[1], TEXTS[2]), float)
    assert scorer.score(images[1], TEXTS[2]) == pytest.approx(matrix[1, 2], rel=1e-5)
    np.testing.assert_allclose(scorer.score(images, TEXTS), np.diag(matrix), rtol=1e-5)
    by_text = scorer.rank(images, TEXTS[0])
    assert [index for index, _ in by_text] == list(np.argsort(-matrix[:, 0]))
    by_image = scorer.rank(images[0], TEXTS, top_k=2)
    assert [index for index, _ in by_image] == list(np.argsort(-matrix[0])[:2])
    assert by_image[0][1] == pytest.approx(matrix[0].max(), rel=1e-5)


def test_every_kind_of_image_scores_alike(scorer: Scorer, picture: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    PIL.Image.fromarray(picture).save(path)
    kinds: list[Any] = [
        path,
        str(path),
        path.read_bytes(),
        io.BytesIO(path.read_bytes()),
        PIL.Image.open(path),
    ]
    kinds += [picture, picture / 255.0, torch.from_numpy(picture).permute(2, 0, 1)]
    scores = [scorer.score(image, TEXTS[0]) for image in kinds]
    assert len(set(scores)) == 1


def test_ties_keep_their_order(scorer: Scorer, picture: np.ndarray) -> None:
    assert [index for index, _ in scorer.rank([picture] * 3, "a")] == [0, 1, 2]
    assert scorer.rank(picture, "a") == [(0, scorer.score(picture, "a"))]


def test_batches_of_arrays(scorer: Scorer, picture: np.ndarray) -> None:
    batch = np.stack([picture, picture[:, ::-1]])
    as_list = scorer.matrix(list(batch), TEXTS[:1])
    np.testing.assert_array_equal(scorer.matrix(batch, TEXTS[:1]), as_list)
    np.testing.assert_array_equal(
        scorer.matrix(torch.from_numpy(batch).permute(0, 3, 1, 2), TEXTS[0]), as_list
    )


def test_empty_requests(scorer: Scorer, picture: np.ndarray) -> None:
    assert scorer.matrix([], TEXTS).shape == (0, 3)
    assert scorer.matrix([picture], []).shape == (1, 0)
    assert np.shape(scorer.score([], [])) == (0,)
    assert scorer.rank([], "a") == []


def test_noise_can_be_given(scorer: Scorer, picture: np.ndarray) -> None:
    shape = (2, *scorer.encode_images(picture).shape[1:])
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    first = scorer.score(picture, "a", noise=noise)
    assert first == scorer.score(picture, "a", noise=torch.from_numpy(noise))
    assert first != scorer.score(picture, "a")
    assert first != scorer.score(picture, "a", noise=noise[::-1])
    assert scorer.score(picture, "a") != scorer.with_config(seed=1).score(picture, "a")


def test_observe(scorer: Scorer, picture: np.ndarray) -> None:
    seen = scorer.observe(picture, "a red circle", timestep=300)
    names = [site["name"] for site in scorer.info()["layers"]]
    assert list(seen.maps) == names
    assert seen.prediction is not None
    assert seen.prediction.shape == seen.latent.shape == seen.clean.shape == seen.noise.shape
    for values in seen.maps.values():
        assert values.dtype == np.float32
        assert values.shape[2] == len(seen.tokens.ids) == 77
        np.testing.assert_allclose(values.sum(axis=2), 1, atol=1e-5)
    assert len(seen.tokens.content) == seen.tokens.needed - 2
    np.testing.assert_array_equal(seen.tokens.ids, scorer.tokenize("a red circle"))
    np.testing.assert_allclose(seen.clean, scorer.encode_images(picture)[0], rtol=1e-5, atol=1e-6)
    alpha = scorer._model.alphas_cumprod()[300]
    np.testing.assert_allclose(
        seen.latent, np.sqrt(alpha) * seen.clean + np.sqrt(1 - alpha) * seen.noise, rtol=1e-4, atol=1e-5
    )


def test_observe_only_what_is_asked_for(scorer: Scorer, picture: np.ndarray) -> None:
    names = [site["name"] for site in scorer.info()["layers"]]
    assert list(scorer.observe(picture, "a", layers=names[0], prediction=False).maps) == names[:1]
    assert list(scorer.observe(picture, "a", layers=[names[-1], names[0]]).maps) == [names[0], names[-1]]
    up = scorer.observe(picture, "a", layers="up", map="logits", prediction=False)
    assert up.prediction is None
    assert list(up.maps) == [name for name in names if name.startswith("up.")]


def test_encode_images(scorer: Scorer, picture: np.ndarray) -> None:
    one = scorer.encode_images(picture)
    three = scorer.encode_images([picture, picture[::-1], picture])
    assert one.shape[0] == 1
    assert three.shape == (3, *one.shape[1:])
    np.testing.assert_array_equal(three[0], three[2])
    np.testing.assert_allclose(three[:1], one, rtol=1e-4, atol=1e-5)


def test_with_config_shares_weights(scorer: Scorer) -> None:
    other = scorer.with_config(steps=1, layers="up")
    assert other._core is scorer._core
    assert (other.config.steps, other.config.layers, scorer.config.steps) == (1, "up", 2)
    assert other.with_config("paper", steps=3).config == ScoreConfig.preset("paper").replace(steps=3)


def test_properties(scorer: Scorer, tiny: Path) -> None:
    assert (scorer.device, scorer.dtype, scorer.model_id) == ("cpu", "float32", str(tiny))
    assert scorer.num_parameters > 1000
    assert scorer.memory()["weights"] == 4 * scorer.num_parameters
    assert "steps=2" in repr(scorer)
    assert "float32" in scorer._repr_html_()


def test_close(tiny: Path, picture: np.ndarray) -> None:
    with Scorer.from_pretrained(tiny, steps=1) as scorer:
        other = scorer.with_config(seed=1)
    assert "closed" in repr(scorer)
    for use in (scorer.with_config, scorer.memory, lambda: scorer.score(picture, "a"), lambda: scorer.device):
        with pytest.raises(DiscffusionError, match="closed"):
            use()
    other.score(picture, "a")


def test_progress(scorer: Scorer, picture: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    scorer = scorer.with_config(method="attention")  # the error without a text is work too
    reports: list[tuple[int, int]] = []
    scorer.matrix([picture], TEXTS, progress=lambda done, total: reports.append((done, total)))
    assert reports[-1] == (6, 6)
    assert reports == sorted(reports)
    scorer.matrix([picture], TEXTS)
    assert capsys.readouterr().err == ""
    with pytest.raises(ZeroDivisionError):
        scorer.matrix([picture], TEXTS, progress=lambda done, total: 1 / 0)
    scorer.score(picture, "a")


def test_long_texts(scorer: Scorer, picture: np.ndarray) -> None:
    text = "a red circle left of a blue square " * 20
    with pytest.warns(UserWarning, match="77 tokens"):
        scorer.with_config(truncate="warn").score(picture, text)
    assert np.isfinite(scorer.with_config(truncate="silent").score(picture, text))
    with pytest.raises(ConfigError, match="77"):
        scorer.with_config(truncate="error").score(picture, text)


def test_several_threads(scorer: Scorer, picture: np.ndarray) -> None:
    expected = scorer.matrix([picture], TEXTS)
    found: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: found.append(scorer.matrix([picture], TEXTS))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for matrix in found:
        np.testing.assert_allclose(matrix, expected, rtol=1e-5)
