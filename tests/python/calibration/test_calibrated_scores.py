"""A scorer of calibrated scores: its numbers, its probabilities, and what it refuses."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.calibration.made import made, weights_of
from tests.python.training_items import item

from discffusion import ConfigError, Deltas, Scorer, Trainer, evaluate
from discffusion.calibration import Calibration, observe

TEXTS = ["a red circle", "a blue square"]


@pytest.fixture(scope="module")
def items() -> list[Any]:
    return [item(number) for number in range(4)]


@pytest.fixture
def deltas(scorer: Scorer) -> Deltas:
    rng = np.random.default_rng(0)
    arrays = Trainer(scorer, rank=2).deltas.arrays()
    drawn = {name: rng.normal(0, 0.3, array.shape).astype(np.float32) for name, array in arrays.items()}
    return Deltas.from_arrays(drawn, scorer)


def of_pairs(scorer: Scorer, items: list[Any]) -> np.ndarray:
    return np.concatenate([scorer.matrix(one.images, one.texts).ravel() for one in items])


@pytest.mark.parametrize(
    ("map", "error"), [("cosine", True), ("logits", False), ("probs", True), (None, True)]
)
def test_scores_are_the_weighted_numbers(
    scorer: Scorer, items: list[Any], map: str | None, error: bool
) -> None:
    observed = observe(scorer, items, maps=() if map is None else (map,), levels=(0.8, 0.7, 0.5, 0.3))
    weights = weights_of(scorer, (0.7, 0.3), map, error)
    other = scorer.with_calibration(made(scorer, weights))
    expected = weights.score(observed)
    np.testing.assert_allclose(of_pairs(other, items), expected, atol=1e-6)
    # as a part of any other request
    images = [image for one in items for image in one.images]
    texts = [text for one in items for text in one.texts]
    together = other.matrix(images, texts)
    np.testing.assert_allclose([together[0, 0], together[7, 6]], expected[[0, 14]], atol=1e-6)
    by_step = other.score_pairs(images, texts, [(0, 0), (7, 6)], per_step=True)
    np.testing.assert_allclose(by_step.mean(axis=1), expected[[0, 14]], atol=1e-6)


@pytest.mark.parametrize("map", ["cosine", None])
def test_an_explanation_adds_up(scorer: Scorer, picture: np.ndarray, map: str | None) -> None:
    other = scorer.with_calibration(made(scorer, weights_of(scorer, map=map)))
    explained = other.explain(picture, TEXTS[0])
    within = pytest.approx(other.score(picture, TEXTS[0]), abs=1e-6)
    assert explained.score == within
    assert explained.per_token.sum() + explained.denoising == within
    assert sum(heads.sum() for heads in explained.per_head.values()) + explained.denoising == within
    assert explained.per_timestep.sum() == within


def test_probabilities_rise_with_scores(scorer: Scorer, items: list[Any]) -> None:
    other = scorer.with_calibration(made(scorer))
    images, texts = [one.images[0] for one in items], [one.texts[0] for one in items]
    scores, probabilities = other.matrix(images, texts), other.probability_matrix(images, texts)
    assert probabilities.shape == (4, 4)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert (np.argsort(scores.ravel()) == np.argsort(probabilities.ravel())).all()
    np.testing.assert_allclose(other.probability(images, texts), np.diag(probabilities), atol=1e-9)
    one = other.probability(images[0], texts[0])
    assert isinstance(one, float)
    assert one == pytest.approx(probabilities[0, 0], abs=1e-9)


def test_no_probability_without_a_calibration(scorer: Scorer, picture: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"scorer\.calibrate\(items\)"):
        scorer.probability(picture, TEXTS[0])
    other = scorer.with_calibration(made(scorer)).with_config("attention", steps=2)
    assert other.calibration is not None
    with pytest.raises(ConfigError, match=r"with_calibration\(scorer\.calibration\)"):
        other.probability_matrix(picture, TEXTS)
    again = other.with_calibration(other.calibration)
    assert 0 < again.probability(picture, TEXTS[0]) < 1


def test_a_calibrated_score_needs_a_calibration(scorer: Scorer) -> None:
    with pytest.raises(ConfigError, match="calibrat"):
        scorer.with_config(method="calibrated")
    other = scorer.with_calibration(made(scorer))
    with pytest.raises(ConfigError, match="calibrat"):
        other.with_config(tokens="content")
    assert other.with_config(seed=3, batch_size=1, truncate="error").config.seed == 3


def test_the_way_back(scorer: Scorer, picture: np.ndarray) -> None:
    before = scorer.with_config("attention", steps=2, seed=5)
    other = before.with_calibration(made(before)).with_config(seed=6)
    assert other.config.method == "calibrated"
    after = other.with_calibration(None)
    assert after.calibration is None
    assert after.config == before.config.replace(seed=6)
    assert after.with_config(seed=5).score(picture, TEXTS[0]) == before.score(picture, TEXTS[0])
    assert scorer.with_calibration(None).config == scorer.config


def test_options_that_are_the_scorers_own_are_kept(scorer: Scorer) -> None:
    own = scorer.with_config(seed=4, batch_size=3, truncate="silent")
    config = own.with_calibration(made(scorer)).config
    assert (config.seed, config.batch_size, config.truncate) == (4, 3, "silent")


def test_a_calibration_is_of_one_model(scorer: Scorer) -> None:
    with pytest.raises(
        ConfigError, match=r"belongs to another scorer: parts .*was.* and is .*calibrate this one"
    ):
        Scorer().with_calibration(made(scorer))
    told = {**scorer.describe(), "score_version": 1}
    with pytest.raises(ConfigError, match="another scorer: score_version was 1 and is 2"):
        scorer.with_calibration(made(scorer, scorer=told))


def test_a_calibration_is_of_one_set_of_deltas(
    scorer: Scorer, deltas: Deltas, picture: np.ndarray, tmp_path: Path
) -> None:
    calibrated, tuned = scorer.with_calibration(made(scorer)), scorer.with_deltas(deltas)
    with pytest.raises(ConfigError, match="another scorer: deltas was null and is"):
        tuned.with_calibration(calibrated.calibration)
    with pytest.raises(ConfigError, match="calibrate that again"):
        calibrated.load_deltas(deltas)
    with pytest.raises(ConfigError, match="calibrate that again"):
        calibrated.with_deltas(deltas)
    made(tuned).save(tmp_path / "tuned")
    both = tuned.with_calibration(tmp_path / "tuned")
    expected = both.score(picture, TEXTS[0])
    assert expected != calibrated.score(picture, TEXTS[0])
    with pytest.raises(ConfigError, match="calibrate that again"):
        both.unload_deltas()
    both.load_deltas(deltas)  # the same
    assert both.score(picture, TEXTS[0]) == expected
    # scores of another method may have them; the calibration goes
    other = calibrated.with_config("attention", steps=2)
    other.load_deltas(deltas)
    assert other.calibration is None


def test_a_description_names_the_calibration(scorer: Scorer) -> None:
    calibration = made(scorer)
    assert "calibration" not in scorer.describe()
    other = scorer.with_calibration(calibration)
    told = other.describe()
    assert told["calibration"] == calibration.digest
    assert told["timesteps"] == [700, 300]
    assert "calibration" not in other.with_config("attention").describe()
    assert "calibrated" in repr(other)


def test_copies_and_pickles_have_it(scorer: Scorer, deltas: Deltas, picture: np.ndarray) -> None:
    for base in (scorer, scorer.with_deltas(deltas)):
        other = base.with_calibration(made(base)).with_config(seed=2)
        expected = other.probability(picture, TEXTS[0])
        for same in (copy.copy(other), copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
            assert same.probability(picture, TEXTS[0]) == expected
            assert same.describe() == other.describe()
        elsewhere = pickle.loads(pickle.dumps(other.with_config("attention", steps=2)))
        assert elsewhere.calibration.digest == other.calibration.digest


def test_rows_of_another_calibration_are_not_gone_on_with(
    scorer: Scorer, items: list[Any], tmp_path: Path
) -> None:
    first = scorer.with_calibration(made(scorer))
    other = scorer.with_calibration(made(scorer, weights_of(scorer, seed=1)))
    evaluate(first, items[:2], output=tmp_path / "rows.jsonl", progress=False)
    with pytest.raises(ConfigError, match="calibration was"):
        evaluate(other, items[:2], output=tmp_path / "rows.jsonl", progress=False)


def test_a_fit_of_the_default_score(scorer: Scorer, items: list[Any], tmp_path: Path) -> None:
    told: list[int] = []
    calibration = scorer.calibrate(items, progress=lambda done, total: told.append(done))
    assert told[-1] == 4
    report = calibration.report
    assert (report["items"], report["pairs"], report["comparisons"]) == (4, 16, 16)
    assert report["candidates"][0]["name"] == "baseline"
    assert calibration.before == scorer.config
    assert set(calibration.weights.levels) <= {0.8, 0.3}
    calibration.save(tmp_path / "calibration")
    other = scorer.with_calibration(tmp_path / "calibration")
    observed = observe(
        scorer, items, maps=(calibration.weights.map,) if calibration.weights.map else (), levels=(0.8, 0.3)
    )
    expected = calibration.weights.score(observed)
    np.testing.assert_allclose(of_pairs(other, items), expected, atol=1e-6 * max(1, np.abs(expected).max()))
    assert "accuracy after" in str(calibration)
    assert repr(Calibration.load(tmp_path / "calibration")) == repr(calibration)
    again = other.calibrate(items, progress=False)
    assert (again.digest, again.before) == (calibration.digest, scorer.config)


def test_a_score_that_is_not_a_weighted_one(scorer: Scorer, items: list[Any]) -> None:
    own = scorer.with_config("paper", steps=1, prior="null", layers="last(1)")
    calibration = own.calibrate(items, over=("steps",), progress=False)
    assert calibration.weights.layers == (scorer.layers[-1],)
    assert calibration.weights.map == "probs"
    assert calibration.weights.error is None
    first, second = calibration.report["notes"]
    assert first.startswith("heads='attributed'")
    assert second.startswith("prior='null'")
    assert calibration.before == own.config


def test_wrong_arguments_are_found_before_anything_is_scored(scorer: Scorer, items: list[Any]) -> None:
    def never(done: int, total: int) -> None:
        raise AssertionError

    for arguments, message in (
        ({"over": ("step",)}, "over is"),
        ({"over": "steps"}, "over is"),
        ({"maps": ("values",)}, "maps is"),
        ({"seed": -1}, "seed is -1"),
    ):
        with pytest.raises(ConfigError, match=message):
            scorer.calibrate(items, progress=never, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="3 of 3 items .* 4 or more are needed"):
        scorer.calibrate(items[:3], progress=never)


def test_it_has_a_prior_of_its_own(scorer: Scorer, picture: np.ndarray) -> None:
    calibrated = scorer.with_calibration(made(scorer))
    blind = calibrated.blind(TEXTS)
    assert (blind != scorer.blind(TEXTS)).all()
    found = calibrated.with_config(prior="null").matrix(picture, TEXTS)[0]
    np.testing.assert_allclose(found, calibrated.matrix(picture, TEXTS)[0] - 0.5 * blind, atol=1e-6)
