"""The algorithm of the released code, written from its description.

For every pair, or batch of pairs: the text and the empty text are encoded; at every timestep, one after another, the
image is encoded again, and the UNet evaluates a batch of two for each pair, without the text and with it. Every
attention layer forms its map in full, self-attention too, and takes the log-sum-exp of its logits.

The released score is the mean over both halves of some layers. Here the mean over all layers of the half with the text
is read from the same numbers, pair by pair, so that sides can be compared; it costs nothing more. Each picture is
decoded and resized once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from discffusion.bench.machine import memory_available
from discffusion.bench.sides.modules import inference

if TYPE_CHECKING:
    from discffusion.bench.clock import Clock
    from discffusion.bench.sides.modules import Modules
    from discffusion.bench.workloads import Terms

__all__ = ["Released"]


class ExplicitProcessor:
    """Attention with its map in full; the log-sum-exp of the logits over keys is always taken.

    Attributes:
        pooled: of a cross-attention layer, the mean over heads and image tokens, float32 ``[batch]``.
    """

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self.pooled = torch.empty(0)

    def __call__(self, attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, **_: Any) -> Any:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states

        def heads(x: Any) -> Any:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2).flatten(0, 1)  # [batch · H, tokens, d]

        q, k, v = heads(attn.to_q(hidden_states)), heads(attn.to_k(context)), heads(attn.to_v(context))
        logits = torch.baddbmm(
            q.new_empty(q.shape[0], q.shape[1], k.shape[1]), q, k.transpose(1, 2), beta=0, alpha=attn.scale
        )
        pooled = logits.logsumexp(-1)
        if self.keep:
            self.pooled = pooled.float().mean(1).unflatten(0, (-1, attn.heads)).mean(1)
        mixed = torch.bmm(logits.softmax(-1), v)
        return attn.to_out[0](mixed.unflatten(0, (-1, attn.heads)).transpose(1, 2).flatten(2))


class Released:
    """Pairs in batches of `batch`, in the order of the texts of an image."""

    def __init__(self, modules: Modules, batch: int) -> None:
        self.modules, self.batch = modules, batch
        sites = modules.sites
        self.processors = {name: ExplicitProcessor(name in sites) for name in modules.processors}
        self.kept = [self.processors[name] for name in sites]

    @property
    def about(self) -> dict[str, Any]:
        return {"batch": self.batch}

    def prepare(self) -> None:
        self.modules.use(self.processors, "contiguous", "contiguous")

    @inference
    def matrix(self, images: Sequence[bytes], texts: Sequence[str], terms: Terms) -> NDArray[np.float64]:
        pictures = [self.modules.pixels(image, terms.resolution) for image in images]
        pairs = [(i, j) for i in range(len(images)) for j in range(len(texts))]
        scores: list[float] = []
        for start in range(0, len(pairs), self.batch):
            own = pairs[start : start + self.batch]
            scores += self._batch([pictures[i] for i, _ in own], [texts[j] for _, j in own], terms)
        return np.array(scores).reshape(len(images), len(texts))

    def _batch(self, pictures: Sequence[Any], texts: Sequence[str], terms: Terms) -> list[float]:
        modules, weight = self.modules, float(terms.method == "combined")
        empty = modules.encode_texts([""] * len(texts))
        vectors = torch.cat([empty, modules.encode_texts(texts)])
        noise = torch.from_numpy(terms.noise).to(modules.device)
        alphas, times = modules.alphas(terms), modules.times(terms)
        total = torch.zeros(len(texts), dtype=torch.float64, device=modules.device)
        for step in range(terms.steps):
            clean, a = modules.encode_images(torch.stack(list(pictures))), alphas[step : step + 1]
            shared = noise[step].expand_as(clean)
            noised = a.sqrt() * clean + (1 - a).sqrt() * shared
            prediction = modules.predict(torch.cat([noised, noised]), times[step], vectors)
            target = modules.target(clean, shared, a)
            without, with_text = (torch.cat([target, target]) - prediction).flatten(1).norm(dim=1).chunk(2)
            attention = torch.stack([kept.pooled.chunk(2)[1] for kept in self.kept]).mean(0)
            total += attention + weight * (without - with_text)
        return list((total / terms.steps).tolist())

    def tune(self, terms: Terms, rows: int, clock: Clock) -> None:
        pass

    def unable(self, pairs: int, terms: Terms) -> str | None:
        """It forms attention maps only as logits, and all at once."""
        if terms.map != "logits":
            return f"it pools logits, not {terms.map}"
        if self.batch > 1 and pairs == 1:
            return "one pair makes no batch"
        if self.modules.device.type != "cpu":
            return None
        needed, free = self.needed(min(self.batch, pairs), terms), memory_available()
        if free is not None and needed > 0.8 * free:
            return f"its attention maps need {needed / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free"
        return None

    def needed(self, batch: int, terms: Terms) -> int:
        """Bytes of the largest self-attention map while it is formed: logits, their exponentials and probabilities."""
        heads = self.modules.unet.config.num_attention_heads or self.modules.unet.config.attention_head_dim
        first = heads if isinstance(heads, int) else heads[0]
        tokens = terms.noise.shape[2] * terms.noise.shape[3]
        return int(3 * 2 * batch * first * tokens**2 * self.modules.dtype.itemsize)
