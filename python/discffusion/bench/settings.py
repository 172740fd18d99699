"""The score that all implementations compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from discffusion.scorer import Scorer

__all__ = ["BenchSettings", "make_settings"]


@dataclass(frozen=True, eq=False)
class BenchSettings:
    """What all implementations compute alike.

    Attributes:
        timesteps: training timesteps that are averaged.
        noise: float32 ``[steps, C, h, w]``, shared by all pairs.
        resolution: side of the images, pixels.
        method: ``"attention"``, or ``"combined"`` with the denoising term of weight 1.
        map: which cross-attention map is pooled: ``"logits"``, ``"probs"`` or ``"cosine"``; always by log-sum-exp, and
            averaged over all heads and layers.
    """

    timesteps: tuple[int, ...]
    noise: NDArray[np.float32]
    resolution: int
    method: str = "attention"
    map: str = "logits"

    @property
    def steps(self) -> int:
        return len(self.timesteps)

    def first(self, steps: int) -> BenchSettings:
        """The same at the first timesteps alone."""
        return BenchSettings(
            self.timesteps[:steps], self.noise[:steps], self.resolution, self.method, self.map
        )

    def config(self) -> dict[str, Any]:
        """The fields of a :class:`~discffusion.ScoreConfig` that mean the same."""
        return {
            "method": self.method,
            "denoising_weight": 1.0,
            "denoising_error": "norm",
            "unconditional": True,
            "map": self.map,
            "pooling": "lse",
            "lambda_": 1.0,
            "tokens": "all",
            "layers": "all",
            "heads": "mean",
            "timesteps": list(self.timesteps),
            "resolution": self.resolution,
            "resize": "squash",
            "truncate": "silent",
        }


def make_settings(
    scorer: Scorer,
    steps: int,
    resolution: int | None = None,
    method: str = "attention",
    map: str = "logits",
    seed: int = 0,
) -> BenchSettings:
    """BenchSettings for a model: DDIM timesteps of its own schedule, and noise drawn from `seed`."""
    timesteps = scorer.with_config(steps=steps, noise_range=None).describe()["timesteps"]
    info = scorer.info()
    side = int(info["resolution"]) if resolution is None else resolution
    latent = side // int(info["vae_scale_factor"])
    shape = (len(timesteps), int(info["latent_channels"]), latent, latent)
    noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return BenchSettings(tuple(timesteps), noise, side, method, map)
