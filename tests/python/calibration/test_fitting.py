"""The fit: it finds what there is, leaves a good baseline alone, and says what it is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.python.calibration.worlds import LEVELS, noise, observations, signal, world

from discffusion.calibration import Fitted, Numbers, Observations, Weights, choice, families, fit
from discffusion.errors import ConfigError

NO_PRIOR = (0.0,)


def accuracy(weights: Weights, observed: Observations) -> float:
    score = weights.score(observed)
    return float((score[observed.comparisons[:, 0]] > score[observed.comparisons[:, 1]]).mean())


@pytest.fixture(scope="module")
def learned() -> Fitted:
    observed = world(1, 80, {(1, 0): 1.0, (1, 1): -1.0, (2, 1): 0.5})
    return fit(observed, baseline=Weights.even(observed, "cosine", ("up",)))


def test_heads_of_either_sign_are_found(learned: Fitted) -> None:
    assert learned.model == "heads" and learned.weights.map == "cosine"
    found = learned.weights.attention
    assert found is not None
    of_heads = found.sum(axis=0)[[learned.weights.layers.index("mid")] * 2, [0, 1]]
    assert of_heads[0] > 0 > of_heads[1]
    # as strong as each other, within what 80 items tell
    assert -of_heads[1] / of_heads[0] == pytest.approx(1, abs=0.35)


def test_the_accuracy_stated_is_that_on_others(learned: Fitted) -> None:
    others = world(2, 1000, {(1, 0): 1.0, (1, 1): -1.0, (2, 1): 0.5})
    truth = accuracy(learned.weights, others)
    assert learned.after.low <= truth <= learned.after.high
    assert learned.before.value < learned.after.value
    assert learned.after.groups == 80 and learned.after.n == 320


def test_accuracies_of_texts_and_of_images(learned: Fitted) -> None:
    both = learned.directions
    assert list(both) == ["texts", "images"]
    for place, whole in enumerate((learned.before, learned.after)):
        parts = [both[name][place] for name in both]
        assert [part.n for part in parts] == [160, 160]
        assert sum(part.value for part in parts) / 2 == pytest.approx(whole.value)
    observed = replace(world(1, 8, {(1, 0): 3.0}), of_image=None)
    assert not fit(observed, baseline=Weights.even(observed, "cosine", ("up",))).directions


def test_probabilities_are_calibrated_on_others(learned: Fitted) -> None:
    others = world(3, 1000, {(1, 0): 1.0, (1, 1): -1.0, (2, 1): 0.5})
    p = 1 / (1 + np.exp(-(learned.slope * learned.weights.score(others) + learned.offset)))
    assert learned.slope > 0
    assert p.mean() == pytest.approx(0.5, abs=0.05)
    sure = p > 0.8
    assert others.labels[sure].mean() == pytest.approx(p[sure].mean(), abs=0.06)
    assert learned.reliability.ece < 0.15


def test_the_candidates_are_told_simplest_first(learned: Fitted) -> None:
    names = [candidate.name for candidate in learned.candidates if not candidate.pruned]
    assert names == ["baseline", "even", "nonnegative", "layers", "heads"]
    assert learned.candidates[0].accuracy == learned.before.value


def test_the_same_seed_gives_the_same_fit() -> None:
    observed = world(4, 8, {(0, 0): 2.0})
    baseline = Weights.even(observed, "cosine", ("up",))
    first, again = (fit(observed, baseline=baseline, prior_weights=NO_PRIOR, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.weights.score(observed), again.weights.score(observed))
    assert (first.after, first.slope, first.candidates) == (again.after, again.slope, again.candidates)


@pytest.mark.parametrize(("seed", "strength"), [(2, 0.8), (3, 0.8), (9, 1.2), (14, 1.2)])
def test_ten_items_leave_a_good_baseline_alone(seed: int, strength: float) -> None:
    """The baseline is the best there is, right in 94 or 99 % of comparisons, and the rest is noise."""
    observed = world(seed, 10, {(2, 0): strength, (2, 1): strength})
    others = world(seed + 500, 400, {(2, 0): strength, (2, 1): strength})
    baseline = Weights.even(observed, "cosine", ("up",))
    found = fit(observed, baseline=baseline)
    assert accuracy(found.weights, others) >= accuracy(baseline, others) - 0.005


def test_ten_items_of_noise_alone_leave_the_baseline() -> None:
    found = [
        fit(observed, baseline=Weights.even(observed, "cosine", ("up",))).model
        for observed in (world(seed, 10, {}) for seed in range(4))
    ]
    assert found.count("baseline") >= 3


def test_a_baseline_that_is_kept_is_kept_as_it_is() -> None:
    observed = world(5, 12, {}, error=3.0)
    baseline = Weights.even(observed)
    found = fit(observed, baseline=baseline)
    assert found.model == "baseline"
    np.testing.assert_array_equal(found.weights.score(observed), baseline.score(observed))
    assert found.after.value == found.before.value


def test_one_step_that_tells_all_is_enough() -> None:
    rng, pairs = np.random.default_rng(6), 160
    cosine = noise(rng, pairs)
    cosine[:, 2, 1, :] += 6 * signal(pairs)[:, None] * (np.arange(3) < 3)
    observed = observations({"cosine": cosine})
    found = fit(observed, baseline=Weights.even(observed, "cosine", ("up",)))
    assert found.after.value > 0.98
    assert found.weights.levels == (LEVELS[2],)


def test_the_priors_weight_is_found() -> None:
    """What a text scores without an image says nothing of the match, and hides it."""
    rng, pairs = np.random.default_rng(7), 240
    of_text = np.repeat(rng.normal(size=(pairs // 4, 1, 2)), 2, axis=1).reshape(pairs)
    cosine = noise(rng, pairs)
    cosine[:, :, 2, :2] += (0.6 * signal(pairs) + 3 * of_text)[:, None, None]
    prior = noise(rng, pairs) * 0.1
    prior[:, :, 2, :2] += 3 * of_text[:, None, None]
    observed = observations({"cosine": cosine}, prior=Numbers(attention={"cosine": prior.astype(np.float32)}))
    found = fit(observed, baseline=Weights.even(observed, "cosine", ("up",)), prior_weights=(0.0, 0.5, 1.0))
    assert found.weights.prior_weight == 1.0
    assert found.after.value > found.before.value + 0.1


def test_over_says_what_may_differ() -> None:
    observed = world(8, 40, {(0, 0): 1.0, (0, 1): 1.0, (2, 0): 0.4}, error=0.5)
    baseline = Weights.even(observed, "logits", ("down", "up"))

    def weights(*over: str) -> Weights:
        return fit(observed, baseline=baseline, over=over, prior_weights=NO_PRIOR).weights

    steps = weights("steps", "maps")
    assert steps.map == "cosine" and steps.attention is not None and steps.layers == ("down", "up")
    np.testing.assert_allclose(steps.attention[:, 0], steps.attention[:, 1])
    layers = weights("layers", "maps")
    assert layers.attention is not None
    np.testing.assert_allclose(
        layers.attention, np.broadcast_to(layers.attention[:1], layers.attention.shape)
    )
    assert weights("error").error is not None
    assert weights("steps").map == "logits" and weights("steps").error is None


def test_pairs_that_are_not_compared_change_nothing() -> None:
    observed = world(11, 9, {(1, 0): 2.0})
    without = observed.groups < 8
    assert observed.of_image is not None
    fewer = replace(
        observed,
        comparisons=observed.comparisons[without],
        groups=observed.groups[without],
        of_image=observed.of_image[without],
    )
    shorter = world(11, 8, {})
    shorter = replace(
        shorter,
        attention={kind: numbers[:32] for kind, numbers in observed.attention.items()},
        error=None if observed.error is None else observed.error[:32],
    )
    found = [fit(each, baseline=Weights.even(each), prior_weights=NO_PRIOR) for each in (fewer, shorter)]
    assert found[0].after == found[1].after
    assert found[0].reliability.ece == found[1].reliability.ece


def test_layers_of_more_heads_and_padding_count_no_more() -> None:
    """Padding that is not 0 is never read."""
    observed = world(9, 8, {(1, 0): 2.0})
    padded = {kind: numbers.copy() for kind, numbers in observed.attention.items()}
    for numbers in padded.values():
        numbers[:, :, [0, 2], 2] = 100.0
    baseline = Weights.even(observed, "cosine", ("up",))
    found = [
        fit(each, baseline=baseline, prior_weights=NO_PRIOR)
        for each in (observed, replace(observed, attention=padded))
    ]
    np.testing.assert_array_equal(*(each.weights.score(observed) for each in found))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: {"over": ("stages",)}, "over is"),
        (lambda: {"over": "steps"}, "over is"),
        (lambda: {"prior_weights": ()}, "prior_weights is empty"),
        (lambda: {"baseline": Weights.even(world(0, 5, {}), "cosine", ("up",))}, None),
    ],
)
def test_options_are_checked(change: Callable[[], dict], message: str | None) -> None:
    observed = world(0, 5, {})
    observed = replace(observed, prior=Numbers(attention=observed.attention, error=observed.error))
    options = {"baseline": Weights.even(observed, "cosine", ("up",)), **change()}
    if message is None:
        assert fit(observed, **options).before.n == 20
        return
    with pytest.raises(ConfigError, match=message):
        fit(observed, **options)


def test_a_few_groups_are_too_few() -> None:
    observed = world(0, 3, {})
    with pytest.raises(ConfigError, match="3 image groups"):
        fit(observed, baseline=Weights.even(observed))


def test_groups_are_held_out_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is fitted to a part of a group."""
    seen: list[NDArray[np.bool_]] = []
    original = families.regressions

    def spied(
        features: object, prior_weight: float, rows: NDArray[np.bool_], *rest: object, **more: object
    ) -> object:
        seen.append(rows)
        return original(features, prior_weight, rows, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(choice, "regressions", spied)
    observed = world(10, 6, {(0, 0): 1.0})
    fit(observed, baseline=Weights.even(observed), prior_weights=NO_PRIOR)
    assert seen
    for rows in seen:
        assert not set(observed.groups[rows]) & set(observed.groups[~rows])
