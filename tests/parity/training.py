"""Training in plain PyTorch on diffusers' UNet: what the core's losses, gradients and attributions are compared
with.

Deltas are added to the weights as Eq. 5 has it, autograd does the rest. Everything behind the encoders runs in
float64, so that a difference is the core's own rounding or its mistake.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from tests.parity.attribution import head_weights, local_gradient, local_weights
from tests.parity.losses import loss_of_item
from torch import Tensor
from torch.nn import functional

from discffusion.bench.reference.joint import JointReference, joint_map, normed
from discffusion.bench.reference.model import Reference
from discffusion.bench.reference.pooling import pool, select

Arrays = Mapping[str, Tensor]


class DeltaProcessor:
    """The attention of one site with `W + p` in place of `W`; the map stays within the graph."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.deltas: Arrays = {}
        self.kind, self.scale = "probs", 1.0
        self.map = torch.empty(0)

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        def heads(name: str, x: Tensor) -> Tensor:
            weight, delta = getattr(attn, name).weight, self.delta(name)
            projected = functional.linear(x, weight if delta is None else weight + delta)
            return projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # [batch, H, tokens, d]

        q, k = heads("to_q", hidden_states), heads("to_k", encoder_hidden_states)
        if self.kind == "cosine":
            self.watch("cosine", functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).mT)
        logits = self.watch("logits", q @ k.mT / q.shape[-1] ** 0.5)
        probs = self.watch("probs", logits.softmax(-1))
        mixed = probs @ heads("to_v", encoder_hidden_states)
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))

    def delta(self, name: str) -> Tensor | None:
        """What is added to a weight."""
        module = f"{self.path}.{name}"
        if f"{module}.up" in self.deltas:
            return self.deltas[f"{module}.up"] @ self.deltas[f"{module}.down"]
        return self.deltas.get(f"{module}.delta")

    def watch(self, kind: str, map: Tensor) -> Tensor:
        """Keeps the map that is pooled, scaled, and gives back what flows on."""
        if kind != self.kind:
            return map
        self.map = map * self.scale
        if torch.is_grad_enabled() and not self.map.requires_grad:
            self.map.requires_grad_()
        return self.map


class JointDeltaProcessor(DeltaProcessor):
    """The same of a joint attention, whose map is the block of image rows and text columns."""

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any
    ) -> tuple[Tensor, Tensor]:
        def heads(name: str, x: Tensor) -> Tensor:
            linear, delta = getattr(attn, name), self.delta(name)
            weight = linear.weight if delta is None else linear.weight + delta
            split = functional.linear(x, weight, linear.bias).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            return normed(attn, name, split)

        n = hidden_states.shape[1]
        q, k, v = (heads(name, hidden_states) for name in ("to_q", "to_k", "to_v"))
        names = ("add_q_proj", "add_k_proj", "add_v_proj")
        text_q, text_k, text_v = (heads(name, encoder_hidden_states) for name in names)
        if self.kind in ("cosine", "text_probs"):
            self.watch(self.kind, joint_map(q, k, text_k, self.kind))
        logits = torch.cat([q, text_q], dim=2) @ torch.cat([k, text_k], dim=2).mT / q.shape[-1] ** 0.5
        probs = self.watch_block("probs", self.watch_block("logits", logits, n).softmax(-1), n)
        mixed = (probs @ torch.cat([v, text_v], dim=2)).transpose(1, 2).flatten(2)
        image, text = mixed[:, :n], mixed[:, n:]
        return attn.to_out[0](image), text if attn.context_pre_only else attn.to_add_out(text)

    def watch_block(self, kind: str, whole: Tensor, n: int) -> Tensor:
        """Watches the rows of `n` image tokens and the columns of the text."""
        if kind != self.kind:
            return whole
        rows = torch.cat([whole[..., :n, :n], self.watch(kind, whole[..., :n, n:])], dim=-1)
        return torch.cat([rows, whole[..., n:, :]], dim=-2)


@dataclass(frozen=True)
class Item:
    """Latents [n_images, C, h, w], texts, and which of them match and which do not."""

    latents: Tensor
    texts: tuple[str, ...]
    match: np.ndarray
    mismatch: np.ndarray

    @staticmethod
    def joined(items: Sequence[Item]) -> Item:
        """In-batch negatives: one big item. What stands in different items does not match, unless the text is one
        that the image matches in its own: of those nothing is known."""
        match = torch.block_diag(*(torch.tensor(item.match) for item in items)).bool().numpy()
        texts = [text for item in items for text in item.texts]
        mismatch = ~match
        for i, j in np.argwhere(match):
            mismatch[i, [other for other, text in enumerate(texts) if text == texts[j]]] = False
        return Item(torch.cat([item.latents for item in items]), tuple(texts), match, mismatch)


@dataclass(frozen=True)
class Result:
    """A step's loss, the gradients of the arrays, and every item's scores."""

    loss: float
    gradients: dict[str, np.ndarray]
    scores: list[np.ndarray]


class Trainable:
    """diffusers' UNet of a checkpoint with deltas on its cross-attention."""

    def __init__(self, reference: Reference) -> None:
        self.reference, self.sites = reference, reference.layer_names()
        self.unet = copy.deepcopy(reference.unet).double()
        # A row without text is the unconditional one.
        self.condition = cache(lambda text: reference.condition(text) if text else reference.unconditional())
        keys = reference.processor_keys()
        kind = JointDeltaProcessor if isinstance(reference, JointReference) else DeltaProcessor
        self.processors = {site: kind(keys[site].removesuffix(".processor")) for site in self.sites}
        named = {keys[site]: processor for site, processor in self.processors.items()}
        self.unet.set_attn_processor({**self.unet.attn_processors, **named})

    def run(
        self, z_t: Tensor, t: int, texts: Sequence[str], deltas: Arrays, kind: str
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Predictions [B, C, h, w] and maps [B, H, n, m] of all sites, for a batch at one timestep."""
        for processor in self.processors.values():
            processor.deltas, processor.kind = deltas, kind
        z_t = z_t.double()
        arguments = self.reference.unet_arguments(z_t, [self.condition(text) for text in texts])
        prediction = self.reference.predict(self.unet, z_t, t, arguments)
        return prediction, {site: processor.map for site, processor in self.processors.items()}

    def attention_scores(
        self,
        maps: Mapping[str, Tensor],
        texts: Sequence[str],
        *,
        layers: str | Sequence[str] = "all",
        tokens: str = "all",
        heads: str | Sequence[int] = "mean",
        pooling: str = "lse",
        lambda_: float = 1.0,
        attribution: str = "local",
        weights: Mapping[str, Tensor] | None = None,
        **_: Any,
    ) -> Tensor:
        """The attention scores [B]: mean over layers of `1/H Σ_h w_h f(A_h)`.

        `weights` are per site, [H] or [B, H]; without any, attributed heads get the local ones. Weights and the
        gradients in them are constants, as the text after Eq. 7 says.
        """

        own = [self.reference.tokens(text)[1] if tokens == "content" else slice(None) for text in texts]

        def layer(site: str, b: int) -> Tensor:
            own_map = maps[site][b, ..., own[b]]
            if heads == "attributed" and attribution == "elementwise":
                return pool(own_map * local_gradient(own_map, pooling, lambda_), pooling, lambda_).mean()
            pooled = pool(own_map, pooling, lambda_)
            if weights is not None:
                return (weights[site].expand(len(texts), -1)[b] * pooled).mean()
            if heads == "attributed":
                return (local_weights(own_map, pooling, lambda_) * pooled).mean()
            return (pooled if heads == "mean" else pooled[list(heads)]).mean()

        chosen = select(self.sites, layers)
        return torch.stack(
            [torch.stack([layer(site, b) for site in chosen]).mean() for b in range(len(texts))]
        )

    def matrices(
        self, item: Item, t: int, noise: Tensor, deltas: Arrays, config: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Scores and mean squared errors [n_images, n_texts] of all pairs of an item at one timestep."""
        method, kind = config.get("method", "attention"), config.get("map", "probs")
        texts = (*item.texts, "") if method != "attention" else item.texts
        rows = [(z, text) for z in item.latents for text in texts]
        z_t = torch.stack([self.reference.noised(z, noise, t) for z, _ in rows])
        target = torch.stack([self.reference.target(z, noise, t) for z, _ in rows])
        prediction, maps = self.run(z_t, t, [text for _, text in rows], deltas, kind)
        error = (target - prediction).flatten(1)
        shape = (len(item.latents), len(texts))
        mse, norm = error.square().mean(1).view(shape), error.norm(dim=1).view(shape)
        size = norm if config.get("denoising_error", "norm") == "norm" else mse
        help_of_text = (size[:, -1:] if config.get("unconditional", True) else 0.0) - size[:, :-1]
        if method == "denoising":
            return help_of_text, mse[:, :-1]
        with_text = [b for b, (_, text) in enumerate(rows) if text]
        worded = [rows[b][1] for b in with_text]
        weights = None
        if config.get("heads") == "attributed" and config["attribution"] in ("full", "integrated"):
            # This makes passes of its own; the maps of the pass above are at hand already.
            each = [head_weights(self, z_t[b], t, rows[b][1], deltas, config) for b in with_text]
            weights = {site: torch.stack([one[site] for one in each]) for site in each[0]}
        maps = {site: seen[with_text] for site, seen in maps.items()}
        attention = self.attention_scores(maps, worded, **config, weights=weights).view(shape[0], -1)
        if method == "attention":
            return attention, mse
        return attention + config["denoising_weight"] * help_of_text, mse[:, :-1]

    def gradients(
        self,
        items: Sequence[Item],
        timesteps: np.ndarray,
        noise: np.ndarray,
        arrays: Mapping[str, np.ndarray],
        options: Mapping[str, Any],
        config: Mapping[str, Any],
    ) -> Result:
        """What one step computes: `timesteps` [items, k], `noise` [items, k, C, h, w]."""
        with torch.enable_grad():
            leaves = {
                name: torch.tensor(a, dtype=torch.float64).requires_grad_() for name, a in arrays.items()
            }
            losses, scores = [], []
            for item, times, draws in zip(items, timesteps, noise, strict=True):
                seen = [
                    self.matrices(item, t.item(), torch.tensor(eps), leaves, config)
                    for t, eps in zip(times, draws, strict=True)
                ]
                matrix, mse = (torch.stack(part).mean(0) for part in zip(*seen, strict=True))
                losses.append(loss_of_item(matrix, mse, item.match, item.mismatch, **options))
                scores.append(matrix.detach().numpy())
            loss = torch.stack(losses).mean()
            # What stands behind the last pooled map has no gradient: zero.
            found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        gradients = {name: g.numpy() for name, g in zip(leaves, found, strict=True)}
        return Result(loss.item(), gradients, scores)
