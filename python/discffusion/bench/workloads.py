"""What is measured: so many images with so many texts, and the terms on which every side scores them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import ConfigError

if TYPE_CHECKING:
    from discffusion.scorer import Scorer

__all__ = ["WORKLOADS", "Draw", "Terms", "Workload", "draw", "make_terms"]

# Pictures are this much larger than the model takes them, so that there is something to resize.
_LARGER = 1.25
_LARGEST = 4096


@dataclass(frozen=True)
class Workload:
    """All combinations of so many images and so many texts."""

    images: int
    texts: int

    def __str__(self) -> str:
        return f"{self.images}x{self.texts}"

    @property
    def pairs(self) -> int:
        return self.images * self.texts

    @classmethod
    def parse(cls, text: str) -> Workload:
        """From ``"1x10"``.

        Raises:
            ConfigError: it does not read like that.
        """
        found = re.fullmatch(r"([1-9]\d{0,3})[x×]([1-9]\d{0,3})", text.strip())
        if found is None:
            raise ConfigError(f"workload is {text!r}; expected IMAGESxTEXTS, as 1x10")
        return cls(int(found[1]), int(found[2]))


#: by default, and the sides that are measured in each: a large one costs minutes where nothing is shared
WORKLOADS: Mapping[Workload, tuple[str, ...]] = {
    Workload(1, 1): ("released", "diffusers"),
    Workload(1, 10): ("released", "diffusers"),
    Workload(2, 1): ("released", "diffusers"),
    Workload(2, 2): ("released", "diffusers"),
    Workload(16, 16): ("diffusers-batched",),
}


@dataclass(frozen=True, eq=False)
class Terms:
    """What all sides compute alike.

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

    def first(self, steps: int) -> Terms:
        """The same at the first timesteps alone."""
        return Terms(self.timesteps[:steps], self.noise[:steps], self.resolution, self.method, self.map)

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


def make_terms(
    scorer: Scorer,
    steps: int,
    resolution: int | None = None,
    method: str = "attention",
    map: str = "logits",
    seed: int = 0,
) -> Terms:
    """Terms for a model: DDIM timesteps of its own schedule, and noise drawn from `seed`."""
    timesteps = scorer.with_config(steps=steps, noise_range=None).describe()["timesteps"]
    info = scorer.info()
    side = int(info["resolution"]) if resolution is None else resolution
    latent = side // int(info["vae_scale_factor"])
    shape = (len(timesteps), int(info["latent_channels"]), latent, latent)
    noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return Terms(tuple(timesteps), noise, side, method, map)


@dataclass(frozen=True)
class Draw:
    """Encoded pictures (PNG) and captions, no two alike."""

    images: list[bytes]
    texts: list[str]


def draw(workload: Workload, resolution: int, number: int = 0) -> Draw:
    """The pictures and captions of one repeat: scenes of the dataset ``shapes``, other ones for each `number`.

    So nothing that was kept from the repeat before is of use in the next.
    """
    from discffusion.data import load_dataset

    size = min(max(round(resolution * _LARGER), 8), _LARGEST)
    items = load_dataset("shapes", split="test", n=1_000_000, image_size=size)
    images: dict[bytes, None] = {}
    texts: dict[str, None] = {}
    index = 10_000 * number
    while len(images) < workload.images or len(texts) < workload.texts:
        item = items[index]
        if len(texts) < workload.texts:
            texts.setdefault(item.texts[0])
        if len(images) < workload.images:
            images.setdefault(_png(item.images[0]))
        index += 1
    return Draw(list(images), list(texts))


def _png(picture: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG", compress_level=1)
    return file.getvalue()
