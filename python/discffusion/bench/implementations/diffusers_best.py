"""The best that one does with diffusers and attention processors, without going into its model.

Every image and text is encoded once. No evaluation is made without the text, but where the score asks for one: then one
for each image and timestep. Evaluations are batched over pairs and timesteps, in batches and a memory format that
were found to be quickest on this machine. Attention is torch's fused one, except in the scored layers: there a
processor forms the map, and returns its pooled value along with the mixed values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from discffusion.bench.implementations.diffusers_model import FORMATS, inference
from discffusion.bench.implementations.parts import TEXT
from discffusion.bench.reference.conditioning import Conditioning
from discffusion.bench.reference.processors import PoolingProcessor

if TYPE_CHECKING:
    from discffusion.bench.clock import Clock
    from discffusion.bench.implementations.diffusers_model import DiffusersModel
    from discffusion.bench.settings import BenchSettings

__all__ = ["BATCHED", "LOOP", "DiffusersBest"]

# A larger batch or another format is taken up if it is quicker by so much.
_WORTH = 0.98
# Where a batch is slower than the one before by so much, larger ones are not tried.
_WORSE = 1.1
# No more timings of a candidate after so many seconds.
_LONG = 1.0
# Images in a batch of the VAE: pixels, as many as one image of 512 has.
_VAE_PIXELS = 512 * 512


class DiffusersBest:
    """Batched over pairs and timesteps; or, as `loop`, one evaluation at a time with everything else the same."""

    def __init__(self, model: DiffusersModel, *, loop: bool = False) -> None:
        self.model = model
        self.batch = 1
        self.formats = {"unet": "contiguous", "vae": "contiguous"}
        self.loop, self._pools = loop, True
        self._processors = {key: PoolingProcessor() for key in model.layers}

    @property
    def about(self) -> dict[str, Any]:
        return {"batch": self.batch, "formats": dict(self.formats)}

    def prepare(self) -> None:
        self.model.use(self._processors, **self.formats)

    @inference
    def matrix(
        self, images: Sequence[bytes], texts: Sequence[str], settings: BenchSettings
    ) -> NDArray[np.float64]:
        model, weight = self.model, float(settings.method == "combined")
        clean = self.encode_images(images, settings.resolution)
        conditioning = model.encode_texts([*texts, None] if weight else texts)
        pairs = [
            (i, j, s) for i in range(len(images)) for j in range(len(texts)) for s in range(settings.steps)
        ]
        self._pool(settings.map)
        attention, errors = self._evaluate(clean, conditioning, pairs, settings)
        shape = (len(images), len(texts), settings.steps)
        scores = attention.reshape(shape).mean(-1)
        if weight:
            empty = [(i, len(texts), s) for i in range(len(images)) for s in range(settings.steps)]
            self._pool(None)
            without = self._evaluate(clean, conditioning, empty, settings)[1].reshape(
                len(images), 1, settings.steps
            )
            scores = scores + weight * (without - errors.reshape(shape)).mean(-1)
        matrix: NDArray[np.float64] = scores.cpu().numpy()
        return matrix

    def encode_images(self, images: Sequence[bytes], resolution: int) -> Any:
        """Latents of encoded images, as many at a time as fill the machine."""
        at_a_time = max(1, _VAE_PIXELS // resolution**2)
        pictures = [self.model.pixels(image, resolution) for image in images]
        batches = (pictures[start : start + at_a_time] for start in range(0, len(pictures), at_a_time))
        return torch.cat([self.model.encode_images(torch.stack(batch)) for batch in batches])

    def _evaluate(
        self,
        clean: Any,
        conditioning: Conditioning,
        rows: Sequence[tuple[int, int, int]],
        settings: BenchSettings,
    ) -> tuple[Any, Any]:
        """Attention score and error of evaluations (image, text, step), float64 ``[len(rows)]`` each."""
        model = self.model
        alphas, times = model.alphas(settings), model.times(settings)
        noise = torch.from_numpy(settings.noise).to(model.device)
        attention, errors = [], []
        parts = -(-len(rows) // self.batch)  # of nearly equal size
        for index in torch.tensor(rows, device=model.device).chunk(parts):
            image, text, step = index.unbind(1)
            z, eps, a = clean[image], noise[step], alphas[step]
            prediction = model.predict(a.sqrt() * z + (1 - a).sqrt() * eps, times[step], conditioning[text])
            if self._pools:
                attention.append(torch.stack([kept.pooled for kept in self._processors.values()]).mean(0))
            if settings.method == "combined":
                errors.append((model.target(z, eps, a) - prediction).flatten(1).norm(dim=1))
        return torch.cat(attention or errors).double(), torch.cat(errors or attention).double()

    @inference
    def tune(self, settings: BenchSettings, rows: int, clock: Clock) -> None:
        """Finds the quickest memory formats, and the quickest batch of up to `rows` evaluations.

        Where one evaluation at a time is wanted, the formats alone.
        """
        self._pool(settings.map)
        device, side = self.model.device, settings.resolution
        picture = torch.zeros(1, 3, side, side, device=device, dtype=self.model.dtype)

        def encode() -> Any:
            return self.model.encode_images(picture)

        if not self.model.timed:  # that weights are fetched at their first use is no candidate's fault
            self.prepare()
            encode()
            self._evaluation(1, settings)()
        times = {}
        for name in FORMATS:
            self.formats["vae"] = name
            times[name] = self._timed("vae", name, 1, clock, encode)
        self.formats["vae"] = min(times, key=lambda name: times[name])
        best, quickest = float("inf"), ("contiguous", 1)
        for name in FORMATS:
            self.formats["unet"] = name
            size, own = 1, float("inf")
            while size <= max(1, rows) and (size == 1 or not self.loop):
                try:
                    seconds = self._timed("unet", name, size, clock, self._evaluation(size, settings)) / size
                except torch.OutOfMemoryError:
                    break
                if seconds < _WORTH * best:
                    best, quickest = seconds, (name, size)
                # A long timing is believed as it stands; a short one may be off.
                if seconds > (_WORTH if seconds * size > _LONG else _WORSE) * own:
                    break
                own, size = min(own, seconds), 2 * size
        self.formats["unet"], self.batch = quickest

    def _timed(self, part: str, format: str, size: int, clock: Clock, call: Callable[[], Any]) -> float:
        if (part, format, size) not in self.model.timed:
            self.prepare()
            self.model.timed[part, format, size] = _quickest(clock, call)
        return self.model.timed[part, format, size]

    def _evaluation(self, size: int, settings: BenchSettings) -> Callable[[], Any]:
        model, shape = self.model, settings.noise.shape[1:]
        noised = torch.randn(size, *shape, device=model.device)
        conditioning = model.encode_texts([TEXT])[torch.zeros(size, dtype=torch.int64, device=model.device)]
        times = model.times(settings)[:1].expand(size)
        return lambda: model.predict(noised, times, conditioning)

    def prepare_evaluations(self, map: str | None) -> None:
        """As :meth:`prepare`, for :meth:`evaluations` with this map pooled, or none."""
        self._pool(map)
        self.prepare()

    @inference
    def evaluations(self, settings: BenchSettings) -> Callable[[int], Any]:
        """A call of the UNet alone: one latent with one text at all timesteps, in batches."""
        model = self.model
        noised, times = torch.from_numpy(settings.noise).to(model.device), model.times(settings)
        conditioning = model.encode_texts([TEXT])
        parts = torch.arange(settings.steps).chunk(-(-settings.steps // self.batch))

        @inference
        def call(_: int) -> None:
            for index in parts:
                model.predict(noised[index], times[index], conditioning.expand(len(index)))

        return call

    def _pool(self, map: str | None) -> None:
        self._pools = map is not None
        for processor in self._processors.values():
            processor.map = map

    def unable(self, pairs: int, settings: BenchSettings) -> str | None:
        return None


def _quickest(clock: Clock, call: Callable[[], Any]) -> float:
    """The least of some timings, of which the first counts only if it takes long."""
    first = clock.time(call)
    if first > _LONG:
        return first
    timings: list[float] = []
    while len(timings) < 5 and sum(timings) < _LONG:
        timings.append(clock.time(call))
    return min(timings)


BATCHED, LOOP = partial(DiffusersBest, loop=False), partial(DiffusersBest, loop=True)
