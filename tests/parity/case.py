"""One checkpoint read by the reference and by the core, with images, texts and noise for both."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from discffusion import ScoreConfig, _native
from discffusion.bench.reference.joint import of_folder
from discffusion.bench.reference.model import Reference
from discffusion.bench.reference.scores import Recording

_core = _native.core()

# Embeddings, latents, predictions and maps; scores with the same noise.
TENSOR_TOLERANCE, SCORE_TOLERANCE = 1e-4, 1e-5
RESOLUTION = 128  # pixels, 16×16 latents
TIMESTEPS = (741, 101)
# The reference's defaults; the core's own are chosen by measurement and may change.
PLAIN = {
    "method": "attention",
    "denoising_weight": 1.0,
    "denoising_error": "norm",
    "unconditional": True,
    "map": "probs",
    "pooling": "lse",
    "lambda_": 1.0,
    "tokens": "all",
    "layers": "all",
    "heads": "mean",
    "attribution": "local",
}
# Long ones, so that each predicts visibly better or worse than the empty text: a score is a difference
# there.
TEXTS = (
    "a photo of a black cat and a white dog under the wooden table, near a large window, at night",
    "two small boats on a wide river between tall mountains; the sky is orange and the water dark blue",
)


def relative(ours: Any, theirs: torch.Tensor) -> float:
    """‖a − b‖ / ‖b‖ in float64; the shapes must agree."""
    a, b = np.asarray(ours, np.float64), theirs.double().numpy()
    assert a.shape == b.shape
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def config(**fields: Any) -> ScoreConfig:
    """A ScoreConfig; what is not given is plain."""
    return ScoreConfig.from_dict({**PLAIN, **fields})


def load(folder: Path, variant: str | None = None) -> Any:
    """The core's scorer of a folder, float32 on the CPU."""
    return _core.Scorer.load(str(folder), variant, "cpu", "float32")


def picture(seed: int, resolution: int = RESOLUTION) -> np.ndarray:
    """An RGB image [H, W, 3] in 8 bits: a smooth field of colour with some grain."""
    draw = np.random.default_rng(seed)
    size = (resolution, resolution)
    coarse = Image.fromarray(draw.integers(0, 236, (5, 5, 3), dtype=np.uint8))
    grain = draw.integers(0, 20, (*size, 3), dtype=np.uint8)
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).clip(0, 235) + grain


@dataclass
class Case:
    """One checkpoint, both ways."""

    folder: Path
    variant: str | None = None
    resolution: int = RESOLUTION
    timesteps: tuple[int, ...] = TIMESTEPS
    texts: tuple[str, ...] = TEXTS
    channels: int = 4
    images: list[np.ndarray] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.images = self.images or [picture(seed, self.resolution) for seed in (1, 2)]
        side = self.resolution // 8
        draw = torch.Generator().manual_seed(5)
        self.noise = {t: torch.randn(self.channels, side, side, generator=draw) for t in self.timesteps}

    @cached_property
    def core(self) -> Any:
        return load(self.folder, self.variant)

    @cached_property
    def reference(self) -> Reference:
        return of_folder(self.folder, self.variant)

    @cached_property
    def recording(self) -> Recording:
        latents = [self.reference.latent(image, self.resolution) for image in self.images]
        return Recording(self.reference, latents, self.texts, self.noise)

    def config(self, **fields: Any) -> ScoreConfig:
        return config(**{"resolution": self.resolution, "timesteps": list(self.timesteps), **fields})

    def scores(self, pairs: list[tuple[int, int]], **fields: Any) -> np.ndarray:
        """The core's scores of `pairs` (image, text) with the case's noise, float64 [n]."""
        noise = torch.stack(list(self.noise.values())).numpy()
        where = np.array(pairs, np.int64)
        rows = self.core.score_pairs(self.images, list(self.texts), where, self.config(**fields), noise, None)
        assert rows.shape == (len(pairs), len(self.timesteps))
        return rows.mean(1)

    def observe(self, t: int, map: str = "probs", image: int = 0, text: int = 0) -> dict[str, Any]:
        """The core's observation with the case's noise (that of the first timestep where `t` has none)."""
        noise = self.noise.get(t, self.noise[self.timesteps[0]]).numpy()
        return self.core.observe(
            self.images[image], self.texts[text], t, None, map, True, self.config(), noise
        )
