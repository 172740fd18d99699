"""Training of every score: a step compares scores of its own timesteps, and its gradient is that of the loss."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.calibration.made import made, weights_of
from tests.python.training_items import SCORE, Drawn, item, threads, trainer_of

from discffusion import ConfigError, Deltas, Scorer, Trainer
from discffusion.images import prepare
from discffusion.training.validation import compare

LEVELS = (0.7, 0.5, 0.3)
PLAIN: dict[str, Any] = {
    "noise_levels": list(LEVELS),
    "layers": "last(2)",
    "resolution": 64,
    "truncate": "silent",
}
STEP: dict[str, Any] = {"temperature": 1.0, "timesteps": "config", "timesteps_per_step": 2}
PRIOR: dict[str, Any] = {"prior": "null", "prior_weight": 0.75}
SCORES: dict[str, dict[str, Any]] = {
    "attention": {"method": "attention", "map": "logits"},
    "denoising": {"method": "denoising"},
    "combined": {"method": "combined", "map": "cosine", "denoising_weight": 0.5},
    "attention, prior": {"method": "attention", "map": "logits", **PRIOR},
    "denoising, prior": {"method": "denoising", **PRIOR},
    "error alone, prior": {"method": "denoising", "unconditional": False, "denoising_error": "mse", **PRIOR},
    "combined, prior": {"method": "combined", "map": "cosine", **PRIOR},
}
CALIBRATED: dict[str, dict[str, Any]] = {
    "calibrated": {},
    "calibrated attention": {"error": False},
    "calibrated error": {"map": None},
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


def scorer_of(scorer: Scorer, name: str) -> Scorer:
    """A scorer of that score, by three timesteps."""
    if name in SCORES:
        return scorer.with_config(**PLAIN, **SCORES[name])
    kind, _, prior = name.partition(", ")
    own = scorer.with_config(resolution=64, truncate="silent")
    other = own.with_calibration(made(own, weights_of(own, LEVELS, **CALIBRATED[kind])))
    return other.with_config(**PRIOR) if prior else other


def started(scorer: Scorer, **options: Any) -> Any:
    """The core's trainer with two items and deltas that are not zero."""
    trainer = Trainer(scorer, layers=layers_of(scorer), **{**STEP, **options})
    core = trainer._core
    for index in range(2):
        one = item(index)
        core.add(index, [prepare(image) for image in one.images], list(one.texts), one.match)
    rng, arrays = np.random.default_rng(0), core.deltas().arrays()
    drawn = {name: rng.normal(0, 0.05, arrays[name].shape).astype(np.float32) for name in sorted(arrays)}
    core.set_deltas(Deltas.from_arrays(drawn, scorer)._core)
    return core


def layers_of(scorer: Scorer) -> str:
    """Those that are trained: the drawn weights of a calibration are of layers on the way down."""
    return "down" if scorer.config.method == "calibrated" else "up"


EVERY = [*SCORES, *CALIBRATED, "calibrated, prior"]


@pytest.mark.parametrize("name", EVERY)
def test_a_step_compares_the_scores_of_its_timesteps(name: str, scorer: Scorer) -> None:
    own = scorer_of(scorer, name)
    core = started(own, negatives="mean")
    found = core.gradients([0, 1])
    tuned = own._trained(Deltas(core.deltas()))
    levels = [round(1000 * level) for level in LEVELS]
    for index in range(2):
        one, times = item(index), found["timesteps"][index]
        assert set(times) <= set(levels)
        expected = np.zeros((2, 2))
        for time, noise in zip(times, found["noise"][index], strict=True):
            step, pairs = levels.index(time), [(i, j) for i in range(2) for j in range(2)]
            given = np.stack([noise] * len(LEVELS))
            by_step = tuned.score_pairs(one.images, one.texts, pairs, per_step=True, noise=given)
            expected += by_step[:, step].reshape(2, 2) / 2
        for pair, score in found["scores"][index]:
            assert score == pytest.approx(expected[pair], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("name", EVERY)
def test_the_gradient_is_that_of_the_loss(name: str, loss: str, scorer: Scorer) -> None:
    """By the difference of the loss on both sides, along the gradient."""
    own = scorer_of(scorer, name)
    core = started(own, loss=loss, temperature=0.05)
    arrays, found = core.deltas().arrays(), core.gradients([0, 1])
    norm = np.sqrt(sum((gradient**2).sum() for gradient in found["gradients"].values()))
    assert norm > 0
    step = 1.5e-3 * found["loss"] / norm

    def loss_at(distance: float) -> float:
        moved = {name: a + distance / norm * found["gradients"][name] for name, a in arrays.items()}
        core.set_deltas(Deltas.from_arrays(moved, own)._core)
        return float(core.gradients([0, 1])["loss"])

    assert (loss_at(step) - loss_at(-step)) / (2 * step) == pytest.approx(norm, rel=0.02)


@pytest.mark.parametrize("saving", [{"recompute": True}, {"accumulate": 2}, {"batch_size": 1}], ids=str)
@pytest.mark.parametrize("name", ["attention, prior", "combined, prior", "calibrated, prior"])
def test_savings_change_nothing(name: str, saving: dict[str, Any], scorer: Scorer) -> None:
    """But the order of some sums: rows block by block, in parts, and only those that have a gradient."""
    own = scorer_of(scorer, name)
    plain = started(own.with_config(batch_size=64)).gradients([0, 1])
    if "batch_size" in saving:
        found = started(own.with_config(**saving)).gradients([0, 1])
    else:
        found = started(own.with_config(batch_size=64), **saving).gradients([0, 1])
    assert found["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    for key, gradient in plain["gradients"].items():
        size = np.abs(gradient).max()
        np.testing.assert_allclose(found["gradients"][key], gradient, atol=1e-4 * size + 1e-12)


def test_a_prior_is_computed_where_it_counts(scorer: Scorer) -> None:
    def rows(name: str, **options: Any) -> int:
        core = started(scorer_of(scorer, name), timesteps_per_step=1, **options)
        return int(json.loads(core.step([0], 10))["rows"])

    # two images and two texts, and each text with three null images
    assert rows("attention") == 4
    assert rows("attention, prior") == rows("calibrated attention, prior") == 4 + 6
    # each image, and each null image, once more without a text
    assert rows("denoising") == 4 + 2
    assert rows("denoising, prior") == 4 + 2 + 6 + 3
    # it is the same for both images of a text, unless each pair is taken by itself
    assert rows("denoising, prior", negative_kinds="image") == rows("denoising")
    assert rows("denoising, prior", negative_kinds="text") == rows("denoising, prior")
    binary = {"negative_kinds": "image", "loss": "binary_cross_entropy"}
    assert rows("denoising, prior", **binary) == rows("denoising, prior")
    assert rows("denoising, prior", loss="diffusion") == 2


def test_a_prior_that_cancels_changes_nothing(scorer: Scorer) -> None:
    found = [
        started(scorer_of(scorer, name), negative_kinds="image").gradients([0, 1])
        for name in ("attention", "attention, prior")
    ]
    assert found[0]["loss"] == found[1]["loss"]
    for key, gradient in found[0]["gradients"].items():
        np.testing.assert_array_equal(found[1]["gradients"][key], gradient)


@pytest.mark.parametrize("timesteps", ["uniform", "range"])
def test_a_calibration_has_no_weights_of_other_timesteps(timesteps: Any, scorer: Scorer) -> None:
    own = scorer_of(scorer, "calibrated")
    with pytest.raises(ConfigError, match=f'timesteps is "{timesteps}", but the score is calibrated'):
        Trainer(own, timesteps=timesteps)
    assert Trainer(own, timesteps=timesteps, loss="diffusion")._core.timesteps == timesteps
    assert Trainer(own)._core.timesteps == "config"


def test_weights_and_deltas_alternate(scorer: Scorer, picture: np.ndarray) -> None:
    own = scorer_of(scorer, "calibrated")
    trainer = Trainer(own, layers="down", learning_rate=3e-3)
    trainer.fit([item(n) for n in range(3)])
    tuned = trainer.scorer
    assert tuned.config == own.config
    assert tuned.describe()["calibration"] == own.calibration.digest
    assert tuned.score(picture, "a red circle") != own.score(picture, "a red circle")
    # the curve belongs to the scores before
    assert own.has_probability and not tuned.has_probability
    with pytest.raises(ConfigError, match="with other deltas"):
        tuned.probability(picture, "a red circle")
    assert pickle.loads(pickle.dumps(tuned)).describe() == tuned.describe()
    before = tuned.with_calibration(None)
    assert before.config.method == "denoising"
    assert before.deltas.digest() == trainer.deltas.digest()
    again = tuned.with_calibration(made(before))
    assert again.has_probability
    assert again.deltas.digest() == trainer.deltas.digest()
    # validation is of the calibrated score
    validated = Trainer(own, layers="down").fit([item(4)], [item(7)]).validations[0]
    scores = own.matrix(item(7).images, item(7).texts)
    assert validated["accuracy"] == compare(scores, item(7).match)[0] / 4
    # training goes on with the weights, in the same trainer and in another
    trainer.fit([item(4)])
    other = Trainer(tuned, layers="down", learning_rate=3e-3)
    other.fit([item(4)])
    assert other.deltas.digest() == trainer.deltas.digest()


def test_a_run_of_another_calibration_is_refused(scorer: Scorer, tmp_path: Path) -> None:
    own = scorer.with_config(resolution=64, truncate="silent")
    first, other = (
        Trainer(own.with_calibration(made(own, weights_of(own, LEVELS, seed=seed))), layers="up")
        for seed in range(2)
    )
    first.fit([item(0)], checkpoint_dir=tmp_path)
    assert first.about()["calibration"] == first._scorer.calibration.digest
    with pytest.raises(ConfigError, match="calibration was .*resume=False"):
        other.fit([item(0)], checkpoint_dir=tmp_path)
    assert first.fit([item(0)], checkpoint_dir=tmp_path).steps


def test_a_prior_is_learned_with(scorer: Scorer) -> None:
    """Validation subtracts it too."""
    trainer = Trainer(scorer.with_config(**SCORE, **PRIOR), layers="up", learning_rate=3e-3)
    history = trainer.fit(Drawn(3), Drawn(1, first=9))
    assert trainer.scorer.config.prior == "null"
    assert all(np.isfinite(history["loss"]))
    assert trainer_of(scorer).config.prior is None
