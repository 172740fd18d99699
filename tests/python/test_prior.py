"""The text prior: what a text scores without an image, subtracted."""

from __future__ import annotations

import numpy as np
import pytest
from tests.python.training_items import Drawn, trainer_of

from discffusion import ConfigError, ScoreConfig, Scorer

TEXTS = ["a red circle", "a blue square left of a dog", "a"]
METHODS = ["attention", "denoising", "combined"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("weight", [0.5, 1.7])
def test_it_is_subtracted(scorer: Scorer, picture: np.ndarray, method: str, weight: float) -> None:
    plain = scorer.with_config(method=method, steps=3)
    blind = plain.blind(TEXTS)
    assert blind.shape == (3,)
    assert len(set(blind)) == 3
    with_prior = plain.with_config(prior="null", prior_weight=weight)
    np.testing.assert_allclose(
        with_prior.matrix(picture, TEXTS)[0],
        plain.matrix(picture, TEXTS)[0] - weight * blind,
        atol=1e-6,
        rtol=1e-6,
    )
    np.testing.assert_array_equal(with_prior.blind(TEXTS), blind)


def test_it_depends_on_nothing_else(scorer: Scorer, picture: np.ndarray) -> None:
    with_prior = scorer.with_config(prior="null", steps=3)
    alone = [with_prior.with_config(seed=0).score(picture, text) for text in TEXTS]
    fresh = Scorer(scorer.info()["path"], device="cpu", config=with_prior.config)
    together = fresh.matrix([picture, picture[::-1], picture[:, ::-1]], [*TEXTS[::-1], *TEXTS])
    np.testing.assert_allclose(together[0][3:], alone, atol=1e-6)
    np.testing.assert_array_equal(together[0][:3], together[0][3:][::-1])
    # what was kept is what is computed
    np.testing.assert_allclose(fresh.matrix(picture, TEXTS)[0], alone, atol=1e-6)
    sized = with_prior.with_config(batch_size=1)
    np.testing.assert_allclose(sized.matrix(picture, TEXTS)[0], alone, atol=1e-6)


def test_it_is_computed_once(scorer: Scorer, picture: np.ndarray) -> None:
    with_prior = scorer.with_config(prior="null", steps=2, seed=99)
    counts: list[int] = []

    def progress(done: int, total: int) -> None:
        counts.append(total)

    def total() -> int:
        counts.clear()
        with_prior.matrix(picture, TEXTS[:1], progress=progress)
        return counts[-1]

    first, second = total(), total()
    # three null images with the text and without, at two timesteps
    assert first - second == 12
    assert total() == second
    # given noise is the caller's: nothing is known of it
    noise = np.random.default_rng(0).standard_normal(
        (2, *scorer.encode_images(picture).shape[1:]), dtype=np.float32
    )
    with_prior.score(picture, TEXTS[0], noise=noise)
    assert total() == second


def test_other_deltas_and_options_have_priors_of_their_own(scorer: Scorer) -> None:
    trainer = trainer_of(scorer.with_config("attention", steps=2), learning_rate=0.02, layers="all")
    trainer.fit(Drawn(2), epochs=1)
    plain = scorer.with_config("attention", steps=2)
    assert (plain.blind(TEXTS) != plain.with_config(seed=1).blind(TEXTS)).all()
    assert (plain.blind(TEXTS) != plain.with_config(layers="all").blind(TEXTS)).all()
    before = plain.blind(TEXTS)
    assert (plain.with_deltas(trainer.deltas).blind(TEXTS) != before).all()
    np.testing.assert_array_equal(plain.blind(TEXTS), before)


def test_configurations_without_it_are_what_they_were() -> None:
    assert "prior" not in ScoreConfig().to_dict()
    assert "prior_weight" not in ScoreConfig().to_dict()
    assert ScoreConfig().prior_weight == 0.5
    assert ScoreConfig().prior is None
    changed = ScoreConfig(prior="null", prior_weight=0.25)
    assert ScoreConfig.from_dict(changed.to_dict()) == changed
    assert changed.changes() == {"prior": "null", "prior_weight": 0.25}
    with pytest.raises(ConfigError, match='prior is "blind"; expected one of null'):
        ScoreConfig(prior="blind")
    with pytest.raises(ConfigError, match="prior_weight is -1"):
        ScoreConfig(prior_weight=-1)


def test_there_are_texts(scorer: Scorer) -> None:
    with pytest.raises(ConfigError, match="blind was given no texts"):
        scorer.blind([])


def test_texts_without_content_come_last(scorer: Scorer, picture: np.ndarray) -> None:
    texts = ["", "a dog", "A", "...", "a red circle"]
    with pytest.warns(UserWarning, match="without content come last.*'', 'A', '...'"):
        ranked = scorer.with_config(steps=1).rank(picture, texts)
    assert {index for index, _ in ranked[:2]} == {1, 4}
    scores = scorer.with_config(steps=1).matrix(picture, texts)[0]
    assert [score for _, score in ranked] == pytest.approx([scores[index] for index, _ in ranked])
    assert ranked[0][1] >= ranked[1][1]
    assert list(np.diff([score for _, score in ranked[2:]]) <= 0) == [True, True]
