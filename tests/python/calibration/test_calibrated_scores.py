"""A scorer of calibrated scores: its numbers, its probabilities, and what it refuses."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.calibration.made import made, of_probability, weights_of
from tests.python.training_items import item

from discffusion import ConfigError, Deltas, Scorer, Trainer, evaluate
from discffusion.calibration import Calibration, observe
from discffusion.calibration.observing import comparisons

TEXTS = ["a red circle", "a blue square"]


@pytest.fixture(scope="module")
def scorer(scorer: Scorer) -> Scorer:
    """Of small images, which take little time."""
    return scorer.with_config(resolution=64)


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


def right_of(scorer: Scorer, items: list[Any]) -> np.ndarray:
    """Which comparisons come out right, bool ``[c]``."""
    found = []
    for one in items:
        scores = scorer.matrix(one.images, one.texts).ravel()
        matching, other = comparisons(one.match).T
        found.append(scores[matching] > scores[other])
    return np.concatenate(found)


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
    scorer = scorer.with_config(resolution=None)
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


@pytest.fixture(scope="module")
def telling(scorer: Scorer) -> list[Any]:
    """Items in which the pairs that match are those that one layer says."""
    knows = scorer.with_config(method="attention", map="logits", lambda_=1.0, layers=[scorer.layers[1]])
    found = []
    for number in range(14):
        one = item(number)
        # texts of an image, then images of a text
        images, texts = (one.images[:1], one.texts) if number < 8 else (one.images, one.texts[:1])
        scores = knows.matrix(images, texts)
        found.append(replace(one, images=images, texts=texts, match=scores == scores.max()))
    return found


def test_a_fit_of_the_default_score(scorer: Scorer, telling: list[Any], tmp_path: Path) -> None:
    told: list[int] = []
    items = telling
    calibration = scorer.calibrate(items, progress=lambda done, total: told.append(done))
    assert told[-1] == 14
    report = calibration.report
    assert (report["items"], report["pairs"], report["comparisons"]) == (14, 28, 14)
    assert report["after"]["value"] > report["before"]["value"]
    assert calibration.weights is not None
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


def test_a_score_that_is_no_weighted_sum(scorer: Scorer, items: list[Any]) -> None:
    """Attributed heads and the prior count as they are: the score before is measured, not put together."""
    own = scorer.with_config("paper", steps=1, prior="null", layers="last(1)")
    calibration = own.calibrate(items, over=("steps",), progress=False)
    assert calibration.report["before"]["value"] == right_of(own, items).mean()
    assert calibration.weights is None  # nothing is better by four items
    assert calibration.before == calibration.config == own.config


def test_a_probability_of_the_score_as_it_is(scorer: Scorer, picture: np.ndarray) -> None:
    other = scorer.with_config(seed=3).with_calibration(of_probability(scorer))
    assert other.has_probability
    assert not scorer.has_probability
    assert other.config == scorer.with_config(seed=3).config
    score = scorer.with_config(seed=3).score(picture, TEXTS[0])
    assert other.score(picture, TEXTS[0]) == score
    assert other.probability(picture, TEXTS[0]) == pytest.approx(1 / (1 + np.exp(0.5 - 2 * score)))
    assert "calibration" not in other.describe()  # no score depends on it
    pickled = pickle.loads(pickle.dumps(other))
    assert pickled.probability(picture, TEXTS[0]) == other.probability(picture, TEXTS[0])
    elsewhere = other.with_config(steps=1)
    assert not elsewhere.has_probability
    with pytest.raises(ConfigError, match=r"of another configuration .*; take scorer\.with_calibration"):
        elsewhere.probability(picture, TEXTS[0])
    assert elsewhere.with_calibration(elsewhere.calibration).config.steps == scorer.config.steps


def test_a_prior_of_fitted_weight(scorer: Scorer, items: list[Any], picture: np.ndarray) -> None:
    """The score is the weighted sum of what was observed, its prior included."""
    observed = observe(scorer, items, maps=("logits",), levels=(0.7, 0.3), prior=True)
    weights = weights_of(scorer, (0.7, 0.3), prior_weight=0.75)
    other = scorer.with_calibration(made(scorer, weights))
    assert (other.config.prior, other.config.prior_weight) == ("null", 0.75)
    np.testing.assert_allclose(of_pairs(other, items), weights.score(observed), atol=2e-6)
    explained = other.explain(picture, TEXTS[0])
    within = pytest.approx(other.score(picture, TEXTS[0]), abs=1e-6)
    assert explained.per_token.sum() + explained.denoising + explained.prior == within
    # the weights are those of scores with any prior, the probability is that of one
    assert other.has_probability
    assert not other.with_config(prior=None).has_probability


def test_a_prior_is_fitted_if_it_is_asked_for(scorer: Scorer, telling: list[Any]) -> None:
    items, own = telling, scorer.with_config("attention", steps=2, map="logits", lambda_=1.0, layers="all")
    candidates = own.calibrate(items, over=("steps", "prior"), progress=False).report["candidates"]
    assert {one["prior_weight"] for one in candidates} <= {0.0, 0.25, 0.5, 0.75, 1.0}
    fixed = own.with_config(prior="null", prior_weight=0.4).calibrate(items, over=("steps",), progress=False)
    assert {one["prior_weight"] for one in fixed.report["candidates"]} == {0.4}
    assert (fixed.config.prior, fixed.config.prior_weight) == ("null", 0.4)


def test_a_calibration_is_measured_on_validation_items(scorer: Scorer, telling: list[Any]) -> None:
    items, own = [*telling[:5], *telling[8:12]], scorer.with_config("attention", steps=2)
    others = [*telling[5:8], *telling[12:]]
    calibration = own.calibrate(items, others, over=("steps",), progress=False)
    report = calibration.report
    assert report["items"] == 9
    assert report["validation"]["items"] == 5
    assert report["after"]["n"] == 5
    calibrated = own.with_calibration(calibration)
    for when, measured in (("before", own), ("after", calibrated)):
        right = right_of(measured, others)
        assert report[when]["value"] == right.mean()
        assert report["directions"]["texts"][when]["value"] == right[:3].mean()
    p = np.concatenate([calibrated.probability_matrix(one.images, one.texts).ravel() for one in others])
    labels = np.concatenate([one.match.ravel() for one in others])
    assert report["brier"] == pytest.approx(np.mean((p - labels) ** 2))


def test_rank_takes_the_better_score(scorer: Scorer, picture: np.ndarray) -> None:
    calibrated = scorer.with_calibration(
        made(scorer)
    )  # better for texts of an image, worse for images of a text
    images = [picture, picture[:, ::-1], 255 - picture]
    assert calibrated.rank(picture, TEXTS, method="auto") == calibrated.rank(picture, TEXTS)
    assert calibrated.rank(images, TEXTS[0], method="auto") == scorer.rank(images, TEXTS[0])
    assert scorer.rank(images, TEXTS[0]) != calibrated.rank(images, TEXTS[0])
    with pytest.raises(ConfigError, match="no calibration to go by"):
        scorer.rank(picture, TEXTS, method="auto")
    with pytest.raises(ConfigError, match="method is 'best'; rank takes 'auto'"):
        calibrated.rank(picture, TEXTS, method="best")  # type: ignore[arg-type]


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
