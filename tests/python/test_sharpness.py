"""LogSumExp tells candidates apart at every sharpness: what is compared is differences and orders, not totals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from discffusion import ConfigError, Scorer

TEXTS = (
    "a red circle left of a blue square",
    "a blue square left of a red circle",
    "a green triangle",
    "a photo",
    "two yellow squares below a red star",
    "nothing at all",
)
TIMESTEP = 400
Maps = dict[str, NDArray[np.float64]]


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    with Scorer(
        config="attention", timesteps=[TIMESTEP], noise_range=None, pooling="lse", layers="all"
    ) as made:
        yield made


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    image = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((4, 20, 28, 44), fill="red")
    draw.rectangle((38, 22, 58, 42), fill="blue")
    return image


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(x - x.max(-1, keepdims=True))
    whole: NDArray[np.float64] = e / e.sum(-1, keepdims=True)
    return whole


def excess(x: NDArray[np.float64], lam: float) -> NDArray[np.float64]:
    """1/λ log(1/m Σ exp(λx)) of rows [..., m]: Eq. 4 without a constant that all candidates share."""
    top = x.max(-1, keepdims=True)
    rows: NDArray[np.float64] = np.log1p(np.expm1(lam * (x - top)).mean(-1)) / lam + top[..., 0]
    return rows


def maps_of(scorer: Scorer, picture: Image.Image, text: str, kind: str) -> Maps:
    """The maps in float64; probabilities from their logits, since those of float32 do not add up to 1."""
    seen = scorer.observe(picture, text, timestep=TIMESTEP, map="logits" if kind == "probs" else kind)
    exact = {site: found.astype(np.float64) for site, found in seen.maps.items()}
    return {site: softmax(found) for site, found in exact.items()} if kind == "probs" else exact


def exactly(maps: Maps, lam: float, heads: str) -> float:
    """The score of one candidate, [H, n, m] by layer, in float64."""
    layers = []
    for found in maps.values():
        gradient = softmax(lam * found) / found.shape[1]
        attributed = found * gradient / found.shape[0]
        pooled = excess(attributed if heads == "elementwise" else found, lam).mean(-1)
        if heads == "local":
            strength = np.abs(attributed).mean((1, 2))
            pooled = pooled * strength / strength.mean()
        layers.append(pooled.mean())
    return float(np.mean(layers))


@pytest.mark.parametrize("lam", [1e-6, 1e-4, 1e-2, 1.0, 100.0, 1e4])
@pytest.mark.parametrize("map", ["probs", "logits", "cosine"])
@pytest.mark.parametrize("heads", ["mean", "local", "elementwise"])
def test_differences_and_order(
    scorer: Scorer, picture: Image.Image, map: str, heads: str, lam: float
) -> None:
    weighed = {} if heads == "mean" else {"heads": "attributed", "attribution": heads}
    ours = scorer.with_config(map=map, lambda_=lam, **weighed).matrix([picture], TEXTS)[0]
    exact = np.array([exactly(maps_of(scorer, picture, text, map), lam, heads) for text in TEXTS])
    found, expected = (scores[:, None] - scores[None] for scores in (ours, exact))
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
    assert np.argsort(ours).tolist() == np.argsort(exact).tolist()


@pytest.mark.parametrize("lam", [1e-3, 0.01, 1.0, 100.0])
def test_the_constant_is_part_of_the_score(scorer: Scorer, picture: Image.Image, lam: float) -> None:
    ours = scorer.with_config(map="probs", lambda_=lam).score(picture, TEXTS[0])
    exact = exactly(maps_of(scorer, picture, TEXTS[0], "probs"), lam, "mean")
    assert ours == pytest.approx(exact + np.log(77) / lam, rel=1e-7)


@pytest.mark.parametrize("tokens", ["all", "content"])
@pytest.mark.parametrize("lam", [1e-6, 1.0, 1e4])
def test_parts_add_up_to_the_score(scorer: Scorer, picture: Image.Image, tokens: str, lam: float) -> None:
    scorer = scorer.with_config(map="probs", lambda_=lam, tokens=tokens)
    found = scorer.explain(picture, TEXTS[0], map="probs")
    assert found.score == pytest.approx(scorer.score(picture, TEXTS[0]), rel=1e-6)
    assert sum(np.sum(part) for part in found.per_layer.values()) == pytest.approx(found.score, rel=1e-9)


@pytest.mark.parametrize("lam", [1e39, 1e-46, 0.0, -1.0, float("nan"), 1e7, 1e-7])
def test_a_sharpness_that_float32_does_not_hold_is_refused(scorer: Scorer, lam: float) -> None:
    with pytest.raises(ConfigError, match="lambda_"):
        scorer.with_config(lambda_=lam)
