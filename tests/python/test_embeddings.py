"""Appendix E: images and texts as vectors of the space of latents, compared by their cosine."""

from __future__ import annotations

import numpy as np
import pytest

from discffusion import ConfigError, ImageError, Scorer, Trainer, evaluate, load_dataset
from discffusion.baselines.embeddings import Embeddings
from discffusion.reproduce import reproduce

TEXTS = ["a red circle", "a blue square above a green cross", ""]


@pytest.fixture(scope="module")
def pocket() -> Scorer:
    return Scorer(config="attention", device="cpu")


def test_shapes_and_lengths(scorer: Scorer, picture: np.ndarray) -> None:
    size = int(np.prod(scorer.encode_images(picture).shape[1:]))
    images, texts = (
        scorer.embed_images([picture, picture[::-1], picture]),
        scorer.embed_texts([*TEXTS, TEXTS[0]]),
    )
    assert (images.shape, images.dtype) == ((3, size), np.float32)
    assert (texts.shape, texts.dtype) == ((4, size), np.float32)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(images[0], images[2])
    np.testing.assert_array_equal(texts[0], texts[3])
    assert scorer.embed_images(picture).shape == (1, size)
    assert scorer.embed_texts(TEXTS[0]).shape == (1, size)


def test_an_image_is_its_latent(scorer: Scorer, picture: np.ndarray) -> None:
    latent = scorer.encode_images(picture).reshape(1, -1)
    np.testing.assert_allclose(scorer.embed_images(picture), latent / np.linalg.norm(latent), atol=1e-6)


@pytest.mark.parametrize("model", ["tiny", "pocket"])  # predicts the noise, predicts the velocity
def test_a_text_is_what_the_network_expects(model: str, scorer: Scorer, pocket: Scorer) -> None:
    """Eight draws of noise and nothing of an image, by the definition and the UNet's own predictions."""
    used = {"tiny": scorer, "pocket": pocket}[model]
    timestep, draws = round(0.85 * used.info()["num_train_timesteps"]), 8
    flat = np.full((8, 8, 3), 220, np.uint8)
    alpha = float(used._model.alphas_cumprod()[timestep])
    latents = []
    repeated = used.with_config(timesteps=[timestep] * draws)
    for noise in repeated._model.noise(repeated.config):
        clean = used.encode_images(flat)[0]
        # observe noises the latent of an image; what it adds is chosen so that the sum is noise alone
        given = noise - np.sqrt(alpha / (1 - alpha)) * clean
        seen = used.observe(flat, TEXTS[1], timestep, layers=[], noise=given)
        x, predicted = seen.latent, seen.prediction
        np.testing.assert_allclose(x, np.sqrt(1 - alpha) * noise, atol=1e-5)
        assert predicted is not None
        if used.info()["prediction_type"] == "epsilon":
            latents.append((x - np.sqrt(1 - alpha) * predicted) / np.sqrt(alpha))
        else:
            latents.append(np.sqrt(alpha) * x - np.sqrt(1 - alpha) * predicted)
    expected = np.sum(latents, axis=0).ravel()
    np.testing.assert_allclose(used.embed_texts(TEXTS[1])[0], expected / np.linalg.norm(expected), atol=2e-5)


def test_nothing_else_in_a_request_matters(scorer: Scorer) -> None:
    together = scorer.embed_texts(TEXTS)
    for batch_size in (1, 3, 64):
        alone = [scorer.with_config(batch_size=batch_size).embed_texts(text)[0] for text in TEXTS]
        np.testing.assert_allclose(together, alone, atol=1e-5)


def test_seed_and_deltas_change_texts_alone(scorer: Scorer, picture: np.ndarray) -> None:
    other = scorer.with_config(seed=1)
    assert not np.allclose(other.embed_texts(TEXTS), scorer.embed_texts(TEXTS), atol=1e-3)
    np.testing.assert_array_equal(other.embed_images(picture), scorer.embed_images(picture))
    deltas = Trainer(scorer, rank=2).deltas
    grown = {name: array + 0.3 for name, array in deltas.arrays().items()}
    trained = scorer.with_deltas(type(deltas).from_arrays(grown, scorer))
    assert not np.allclose(trained.embed_texts(TEXTS), scorer.embed_texts(TEXTS), atol=1e-3)
    np.testing.assert_array_equal(trained.embed_images(picture), scorer.embed_images(picture))


def test_what_is_refused(scorer: Scorer) -> None:
    with pytest.raises(ConfigError, match="no texts"):
        scorer.embed_texts([])
    with pytest.raises(ConfigError, match="no images"):
        scorer.embed_images([])
    with pytest.raises(ConfigError, match="text 0 is int"):
        scorer.embed_texts([1])  # type: ignore[list-item]
    with pytest.raises(ImageError, match="there is no file"):
        scorer.embed_images("missing.png")


def test_progress_is_told(scorer: Scorer) -> None:
    told: list[tuple[int, int]] = []
    scorer.with_config(batch_size=8).embed_texts(TEXTS, progress=lambda *at: told.append(at))
    assert told == [(8, 24), (16, 24), (24, 24)]


def test_they_tell_pictures_apart(pocket: Scorer) -> None:
    """Two pictures that differ in a relation: 90.4 % (86.7 to 93.3) of 120 items of the split test; chance is 50 %."""
    items = load_dataset("shapes", split="eval", subset="predicate", n=40)
    found = evaluate(Embeddings(pocket), items, metrics="accuracy")["accuracy"]
    assert found.value > 0.8
    matrix = Embeddings(pocket).matrix(items[0].images, items[0].texts)
    cosines = pocket.embed_images(items[0].images) @ pocket.embed_texts(items[0].texts).T
    np.testing.assert_allclose(matrix, cosines, atol=1e-6)


def test_the_row_of_table_6(tmp_path: object) -> None:
    from tests.python.reproduce.made_up import TINY

    (result,) = reproduce(["table6"], scale=TINY, output=tmp_path)
    (row,) = (row for row in result.rows if row.label == "Discffusion-embedding")
    assert not row.absent
    assert row.cells.keys() >= {"Subjects", "Objects", "Predicate", "Average", "Top-1 Acc.", "Top-5 Acc."}
