"""The best that one does with diffusers and attention processors, without going into its modules.

Every image and text is encoded once. No evaluation is made without the text, but where the score asks for one: then one
for each image and timestep. Evaluations are batched over pairs and timesteps, in batches and a memory format that
were found to be quickest on this machine. Attention is torch's fused one, except in the scored layers: there a
processor forms the map, and returns its pooled value along with the mixed values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from discffusion.bench.sides.modules import FORMATS, inference
from discffusion.bench.sides.parts import TEXT

if TYPE_CHECKING:
    from discffusion.bench.clock import Clock
    from discffusion.bench.sides.modules import Modules
    from discffusion.bench.workloads import Terms

__all__ = ["DiffusersBest", "PoolingProcessor"]

# A larger batch or another format is taken up if it is quicker by so much.
_WORTH = 0.98
# Where a batch is slower than the one before by so much, larger ones are not tried.
_WORSE = 1.1
# No more timings of a candidate after so many seconds.
_LONG = 1.0
# Images in a batch of the VAE: pixels, as many as one image of 512 has.
_VAE_PIXELS = 512 * 512


class PoolingProcessor:
    """Cross-attention that leaves its pooled map behind.

    Attributes:
        map: which; None for none, and torch's fused attention.
        pooled: log-sum-exp over the text's tokens, mean over image tokens and heads: float32 ``[batch]``.
    """

    def __init__(self) -> None:
        self.map: str | None = "logits"
        self.pooled = torch.empty(0)

    def __call__(self, attn: Any, hidden_states: Any, encoder_hidden_states: Any, **_: Any) -> Any:
        def heads(x: Any) -> Any:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # [batch, H, tokens, d]

        q, k = heads(attn.to_q(hidden_states)), heads(attn.to_k(encoder_hidden_states))
        v = heads(attn.to_v(encoder_hidden_states))
        if self.map == "cosine":
            cosine = functional.normalize(q.float(), dim=-1) @ functional.normalize(k.float(), dim=-1).mT
            self.pooled = cosine.logsumexp(-1).mean((1, 2))
        if self.map in ("cosine", None):
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            logits = ((q * attn.scale) @ k.mT).float()
            sums = logits.logsumexp(-1, keepdim=True)
            probs = logits.sub_(sums).exp_()  # the softmax, from the sums that are there anyway
            self.pooled = (sums if self.map == "logits" else probs.logsumexp(-1)).mean((1, 2)).flatten()
            mixed = probs.to(v.dtype) @ v
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))


class DiffusersBest:
    """Batched over pairs and timesteps; or, as `loop`, one evaluation at a time with everything else the same."""

    def __init__(self, modules: Modules, *, loop: bool = False) -> None:
        self.modules = modules
        self.batch = 1
        self.formats = {"unet": "contiguous", "vae": "contiguous"}
        self.loop, self._pools = loop, True
        self._processors = {name: PoolingProcessor() for name in modules.sites}

    @property
    def about(self) -> dict[str, Any]:
        return {"batch": self.batch, "formats": dict(self.formats)}

    def prepare(self) -> None:
        self.modules.use(self._processors, **self.formats)

    @inference
    def matrix(self, images: Sequence[bytes], texts: Sequence[str], terms: Terms) -> NDArray[np.float64]:
        modules, weight = self.modules, float(terms.method == "combined")
        clean = self.encode_images(images, terms.resolution)
        vectors = modules.encode_texts([*texts, ""] if weight else texts)
        pairs = [(i, j, s) for i in range(len(images)) for j in range(len(texts)) for s in range(terms.steps)]
        self._pool(terms.map)
        attention, errors = self._evaluate(clean, vectors, pairs, terms)
        shape = (len(images), len(texts), terms.steps)
        scores = attention.reshape(shape).mean(-1)
        if weight:
            empty = [(i, len(texts), s) for i in range(len(images)) for s in range(terms.steps)]
            self._pool(None)
            without = self._evaluate(clean, vectors, empty, terms)[1].reshape(len(images), 1, terms.steps)
            scores = scores + weight * (without - errors.reshape(shape)).mean(-1)
        found: NDArray[np.float64] = scores.cpu().numpy()
        return found

    def encode_images(self, images: Sequence[bytes], resolution: int) -> Any:
        """Latents of encoded images, as many at a time as fill the machine."""
        at_a_time = max(1, _VAE_PIXELS // resolution**2)
        pictures = [self.modules.pixels(image, resolution) for image in images]
        batches = (pictures[start : start + at_a_time] for start in range(0, len(pictures), at_a_time))
        return torch.cat([self.modules.encode_images(torch.stack(batch)) for batch in batches])

    def _evaluate(
        self, clean: Any, vectors: Any, rows: Sequence[tuple[int, int, int]], terms: Terms
    ) -> tuple[Any, Any]:
        """Attention score and error of evaluations (image, text, step), float64 ``[len(rows)]`` each."""
        modules = self.modules
        alphas, times = modules.alphas(terms), modules.times(terms)
        noise = torch.from_numpy(terms.noise).to(modules.device)
        attention, errors = [], []
        parts = -(-len(rows) // self.batch)  # of nearly equal size
        for index in torch.tensor(rows, device=modules.device).chunk(parts):
            image, text, step = index.unbind(1)
            z, eps, a = clean[image], noise[step], alphas[step]
            prediction = modules.predict(a.sqrt() * z + (1 - a).sqrt() * eps, times[step], vectors[text])
            if self._pools:
                attention.append(torch.stack([kept.pooled for kept in self._processors.values()]).mean(0))
            if terms.method == "combined":
                errors.append((modules.target(z, eps, a) - prediction).flatten(1).norm(dim=1))
        return torch.cat(attention or errors).double(), torch.cat(errors or attention).double()

    @inference
    def tune(self, terms: Terms, rows: int, clock: Clock) -> None:
        """Finds the quickest memory formats, and the quickest batch of up to `rows` evaluations.

        Where one evaluation at a time is wanted, the formats alone.
        """
        self._pool(terms.map)
        device, side = self.modules.device, terms.resolution
        picture = torch.zeros(1, 3, side, side, device=device, dtype=self.modules.dtype)

        def encode() -> Any:
            return self.modules.encode_images(picture)

        if not self.modules.timed:  # that weights are fetched at their first use is no candidate's fault
            self.prepare()
            encode()
            self._evaluation(1, terms)()
        times = {}
        for name in FORMATS:
            self.formats["vae"] = name
            times[name] = self._timed("vae", name, 1, clock, encode)
        self.formats["vae"] = min(times, key=lambda name: times[name])
        best, found = float("inf"), ("contiguous", 1)
        for name in FORMATS:
            self.formats["unet"] = name
            size, own = 1, float("inf")
            while size <= max(1, rows) and (size == 1 or not self.loop):
                try:
                    seconds = self._timed("unet", name, size, clock, self._evaluation(size, terms)) / size
                except torch.OutOfMemoryError:
                    break
                if seconds < _WORTH * best:
                    best, found = seconds, (name, size)
                # A long timing is believed as it stands; a short one may be off.
                if seconds > (_WORTH if seconds * size > _LONG else _WORSE) * own:
                    break
                own, size = min(own, seconds), 2 * size
        self.formats["unet"], self.batch = found

    def _timed(self, part: str, format: str, size: int, clock: Clock, call: Callable[[], Any]) -> float:
        if (part, format, size) not in self.modules.timed:
            self.prepare()
            self.modules.timed[part, format, size] = _quickest(clock, call)
        return self.modules.timed[part, format, size]

    def _evaluation(self, size: int, terms: Terms) -> Callable[[], Any]:
        modules, shape = self.modules, terms.noise.shape[1:]
        width = modules.unet.config.cross_attention_dim
        length = modules.text_encoder.config.max_position_embeddings
        noised = torch.randn(size, *shape, device=modules.device)
        vectors = torch.randn(size, length, width, device=modules.device, dtype=modules.dtype)
        times = modules.times(terms)[:1].expand(size)
        return lambda: modules.predict(noised, times, vectors)

    def prepare_evaluations(self, map: str | None) -> None:
        """As :meth:`prepare`, for :meth:`evaluations` with this map pooled, or none."""
        self._pool(map)
        self.prepare()

    @inference
    def evaluations(self, terms: Terms) -> Callable[[int], Any]:
        """A call of the UNet alone: one latent with one text at all timesteps, in batches."""
        modules = self.modules
        noised, times = torch.from_numpy(terms.noise).to(modules.device), modules.times(terms)
        vector = modules.encode_texts([TEXT])
        parts = torch.arange(terms.steps).chunk(-(-terms.steps // self.batch))

        @inference
        def call(_: int) -> None:
            for index in parts:
                modules.predict(noised[index], times[index], vector.expand(len(index), -1, -1))

        return call

    def _pool(self, map: str | None) -> None:
        self._pools = map is not None
        for processor in self._processors.values():
            processor.map = map

    def unable(self, pairs: int, terms: Terms) -> str | None:
        return None


def _quickest(clock: Clock, call: Callable[[], Any]) -> float:
    """The least of some timings, of which the first counts only if it takes long."""
    first = clock.time(call)
    if first > _LONG:
        return first
    found: list[float] = []
    while len(found) < 5 and sum(found) < _LONG:
        found.append(clock.time(call))
    return min(found)
