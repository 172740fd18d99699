"""Scores of pairs of images and texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from discffusion.bench.reference.model import Observation, Reference
from discffusion.bench.reference.pooling import attention_score

__all__ = ["Recording"]

_ERRORS = ("norm", "mse")


class Recording:
    """Every pair of some images and texts observed once at every timestep, to be scored in many ways.

    Args:
        latents: of the images, ``[C, h, w]`` each.
        noise: by timestep, ``[C, h, w]`` each, for all pairs.
    """

    def __init__(
        self, reference: Reference, latents: Sequence[Any], texts: Sequence[str], noise: dict[int, Any]
    ) -> None:
        self.noise = noise
        self.content = [reference.tokens(text)[1] for text in texts]
        self.pairs: dict[tuple[int, int, int], Observation] = {}
        # By form of the error: of an image and a timestep without text, and with each text.
        self.empty: dict[tuple[str, int, int], float] = {}
        self.error: dict[tuple[str, int, int, int], float] = {}
        self._maps: dict[tuple[int, int, int, str], dict[str, Any]] = {}
        conditionings, empty = [reference.condition(text) for text in texts], reference.unconditional()
        for i, z in enumerate(latents):
            for t, eps in noise.items():
                z_t, target = reference.noised(z, eps, t), reference.target(z, eps, t)
                without_text = reference.observe(z_t, t, empty).prediction
                for form in _ERRORS:
                    self.empty[form, i, t] = _error(form, target, without_text)
                for j, conditioning in enumerate(conditionings):
                    seen = self.pairs[i, j, t] = reference.observe(z_t, t, conditioning)
                    for form in _ERRORS:
                        self.error[form, i, j, t] = _error(form, target, seen.prediction)

    def score(self, image: int, text: int, *, method: str = "attention", **options: Any) -> float:
        """The mean over timesteps of the attention score, the denoising score, or their weighted sum."""
        weight = options.pop("denoising_weight", 1.0)
        form, against_empty = options.pop("denoising_error", "norm"), options.pop("unconditional", True)
        score = 0.0
        if method != "denoising":
            score += _mean(self._attention(image, text, t, **options) for t in self.noise)
        if method != "attention":
            # Section 7: ‖target − prediction(∅)‖ − ‖target − prediction(y)‖, the first only where it is wanted.
            gain = _mean(
                (self.empty[form, image, t] if against_empty else 0.0) - self.error[form, image, text, t]
                for t in self.noise
            )
            score += gain * (weight if method == "combined" else 1.0)
        return score

    def _attention(
        self, image: int, text: int, t: int, map: str = "probs", tokens: str = "all", **options: Any
    ) -> float:
        key = (image, text, t, map)
        if key not in self._maps:
            seen = self.pairs[image, text, t]
            self._maps[key] = {layer: seen.map(layer, map) for layer in seen.layers}
        kept = self.content[text] if tokens == "content" else slice(None)
        return attention_score({layer: a[..., kept] for layer, a in self._maps[key].items()}, **options)


def _error(form: str, a: Any, b: Any) -> float:
    """The norm of the difference, or the mean of its square."""
    difference = a.double() - b.double()
    return float(difference.norm() if form == "norm" else difference.square().mean())


def _mean(values: Iterable[float]) -> float:
    terms = list(values)
    return sum(terms) / len(terms)
