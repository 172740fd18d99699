"""The algorithm of the released code, written from its description.

For every pair, or batch of pairs: the text and the empty text are encoded; at every timestep, one after another, the
image is encoded again, and the UNet evaluates a batch of two for each pair, without the text and with it. Every
attention layer forms its map in full, self-attention too, and takes the log-sum-exp of its logits.

The released score is the mean over both halves of some layers. Here the mean over all layers of the half with the text
is read from the same numbers, pair by pair, so that implementations can be compared; it costs nothing more. Each
picture is decoded and resized once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from discffusion.bench.implementations.diffusers_model import inference
from discffusion.bench.machine import memory_available
from discffusion.bench.reference.conditioning import Conditioning
from discffusion.bench.reference.processors import ExplicitProcessor

if TYPE_CHECKING:
    from discffusion.bench.clock import Clock
    from discffusion.bench.implementations.diffusers_model import DiffusersModel
    from discffusion.bench.settings import BenchSettings

__all__ = ["ONE_PAIR", "SIXTEEN_PAIRS", "Released"]


class Released:
    """Pairs in batches of `batch`, in the order of the texts of an image."""

    def __init__(self, model: DiffusersModel, batch: int) -> None:
        self.model, self.batch = model, batch
        layers = model.layers
        self.processors = {key: ExplicitProcessor(key in layers) for key in model.processors}
        self.kept = [self.processors[key] for key in layers]

    @property
    def about(self) -> dict[str, Any]:
        return {"batch": self.batch}

    def prepare(self) -> None:
        self.model.use(self.processors, "contiguous", "contiguous")

    @inference
    def matrix(
        self, images: Sequence[bytes], texts: Sequence[str], settings: BenchSettings
    ) -> NDArray[np.float64]:
        pictures = [self.model.pixels(image, settings.resolution) for image in images]
        pairs = [(i, j) for i in range(len(images)) for j in range(len(texts))]
        scores: list[float] = []
        for start in range(0, len(pairs), self.batch):
            own = pairs[start : start + self.batch]
            scores += self._batch([pictures[i] for i, _ in own], [texts[j] for _, j in own], settings)
        return np.array(scores).reshape(len(images), len(texts))

    def _batch(self, pictures: Sequence[Any], texts: Sequence[str], settings: BenchSettings) -> list[float]:
        model, weight = self.model, float(settings.method == "combined")
        empty = model.encode_texts([None] * len(texts))
        conditioning = Conditioning.cat([empty, model.encode_texts(texts)])
        noise = torch.from_numpy(settings.noise).to(model.device)
        alphas, times = model.alphas(settings), model.times(settings)
        total = torch.zeros(len(texts), dtype=torch.float64, device=model.device)
        for step in range(settings.steps):
            clean, a = model.encode_images(torch.stack(list(pictures))), alphas[step : step + 1]
            shared = noise[step].expand_as(clean)
            noised = a.sqrt() * clean + (1 - a).sqrt() * shared
            prediction = model.predict(torch.cat([noised, noised]), times[step], conditioning)
            target = model.target(clean, shared, a)
            without, with_text = (torch.cat([target, target]) - prediction).flatten(1).norm(dim=1).chunk(2)
            attention = torch.stack([kept.pooled.chunk(2)[1] for kept in self.kept]).mean(0)
            total += attention + weight * (without - with_text)
        return list((total / settings.steps).tolist())

    def tune(self, settings: BenchSettings, rows: int, clock: Clock) -> None:
        pass

    def unable(self, pairs: int, settings: BenchSettings) -> str | None:
        """It forms attention maps only as logits, and all at once."""
        if settings.map != "logits":
            return f"it pools logits, not {settings.map}"
        if self.batch > 1 and pairs == 1:
            return "one pair makes no batch"
        if self.model.device.type != "cpu":
            return None
        needed, free = self.needed(min(self.batch, pairs), settings), memory_available()
        if free is not None and needed > 0.8 * free:
            return f"its attention maps need {needed / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free"
        return None

    def needed(self, batch: int, settings: BenchSettings) -> int:
        """Bytes of the largest self-attention map while it is formed: logits, their exponentials and probabilities."""
        config = self.model.unet.config
        heads = config.num_attention_heads or config.attention_head_dim
        tokens = settings.noise.shape[2] * settings.noise.shape[3]
        largest = 0
        for level, kind in enumerate(config.down_block_types):
            if "CrossAttn" in kind:
                own = heads if isinstance(heads, int) else heads[level]
                largest = max(largest, own * (tokens // 4**level) ** 2)
        return int(3 * 2 * batch * largest * self.model.dtype.itemsize)


ONE_PAIR, SIXTEEN_PAIRS = partial(Released, batch=1), partial(Released, batch=16)
