"""The same comparison through the names that users type."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tests.parity.case import PLAIN, SCORE_TOLERANCE, TENSOR_TOLERANCE, Case, relative

from discffusion import ScoreConfig, Scorer

OPTIONS = {"method": "combined", "map": "logits", "heads": "attributed"}


@pytest.fixture
def scorer(case: Case) -> Scorer:
    fields = {**PLAIN, **OPTIONS, "timesteps": case.timesteps, "resolution": case.resolution}
    return Scorer(case.folder, device="cpu", dtype="float32", config=ScoreConfig(**fields))


def test_matrix_score_and_rank(case: Case, scorer: Scorer) -> None:
    noise = torch.stack(list(case.noise.values())).numpy()
    images, texts = [Image.fromarray(image) for image in case.images], list(case.texts)
    expected = np.array([[case.recording.score(i, j, **OPTIONS) for j in (0, 1)] for i in (0, 1)])
    matrix = scorer.matrix(images, texts, noise=noise)
    assert matrix == pytest.approx(expected, rel=SCORE_TOLERANCE, abs=0)
    assert scorer.score(images, texts, noise=noise) == pytest.approx(
        np.diag(matrix), rel=SCORE_TOLERANCE, abs=0
    )
    assert scorer.score(images[0], texts[1], noise=noise) == pytest.approx(
        matrix[0, 1], rel=SCORE_TOLERANCE, abs=0
    )
    order = np.argsort(-expected[0])
    assert [index for index, _ in scorer.rank(images[0], texts, noise=noise)] == order.tolist()


def test_observe_and_encode(case: Case, scorer: Scorer) -> None:
    z = case.reference.latent(case.images[0], case.resolution)
    z_t = case.reference.noised(z, case.noise[741], 741)
    theirs = case.reference.observe(z_t, 741, case.reference.condition(case.texts[0]))
    ours = scorer.observe(
        case.images[0], case.texts[0], timestep=741, layers="up", map="logits", noise=case.noise[741].numpy()
    )
    assert relative(scorer.encode_images(case.images[0])[0], z) <= TENSOR_TOLERANCE
    assert relative(ours.latent, z_t) <= TENSOR_TOLERANCE
    assert relative(ours.prediction, theirs.prediction) <= TENSOR_TOLERANCE
    assert list(ours.maps) == [site for site in case.reference.layer_names() if site.startswith("up.")]
    for site, seen in ours.maps.items():
        assert relative(seen, theirs.map(site, "logits")) <= TENSOR_TOLERANCE
    assert scorer.tokenize(case.texts[0]).tolist() == case.reference.tokens(case.texts[0])[0][0].tolist()
