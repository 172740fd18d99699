"""The training loop that one would write first with PyTorch and diffusers: the yardstick of `train_step`.

A processor for every cross-attention layer adds `p` to `W` and leaves its pooled map behind; all pairs of an item go
through the network as one batch; autograd and torch's AdamW do the rest. Latents and text vectors are computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from discffusion.bench.reference.layers import layer_names
from discffusion.bench.reference.model import Reference
from discffusion.bench.reference.pooling import pool, select
from discffusion.data import MatchItem


class PoolingProcessor:
    """Cross-attention with `W_k + p_k` and `W_v + p_v`; where wanted, the pooled map [batch, H] is kept."""

    def __init__(self, attn: Any, wanted: bool, config: Mapping[str, Any]) -> None:
        self.p_k = torch.nn.Parameter(torch.zeros_like(attn.to_k.weight))
        self.p_v = torch.nn.Parameter(torch.zeros_like(attn.to_v.weight))
        self.wanted, self.kind = wanted, config["map"]
        self.how = config["pooling"], config["lambda_"]
        self.pooled = torch.empty(0)

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        q = heads(attn.to_q(hidden_states))
        k = heads(functional.linear(encoder_hidden_states, attn.to_k.weight + self.p_k))
        v = heads(functional.linear(encoder_hidden_states, attn.to_v.weight + self.p_v))
        if not self.wanted:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            logits = q @ k.mT / q.shape[-1] ** 0.5
            probs = logits.softmax(-1)
            if self.kind == "cosine":
                seen = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).mT
            else:
                seen = logits if self.kind == "logits" else probs
            self.pooled = pool(seen, *self.how)
            mixed = probs @ v
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))


class TorchLoop:
    """Dense deltas on the keys and values of all layers, triplet loss with the hardest negative, AdamW."""

    def __init__(self, folder: Path, config: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        if config["method"] != "attention" or config["tokens"] != "all" or config["heads"] != "mean":
            raise ValueError("the loop pools all tokens of all heads and has no denoising term")
        self.reference = Reference(folder)
        self.margin, self.temperature = options["margin"], options["temperature"]
        unet = self.reference.unet
        layers = layer_names(unet.attn_processors)
        chosen = select(list(layers), config["layers"])
        processors = dict(unet.attn_processors)
        self.trained: dict[str, PoolingProcessor] = {}
        for layer, key in layers.items():
            attn = unet.get_submodule(key.removesuffix(".processor"))
            processors[key] = self.trained[layer] = PoolingProcessor(attn, layer in chosen, config)
        unet.set_attn_processor(processors)
        self.chosen = [self.trained[layer] for layer in chosen]
        parameters = [p for processor in self.trained.values() for p in (processor.p_k, processor.p_v)]
        self.optimizer = torch.optim.AdamW(
            parameters, lr=options["learning_rate"], weight_decay=options["weight_decay"]
        )
        halvings = len(self.reference.vae.config.block_out_channels) - 1
        self.resolution = unet.config.sample_size * 2**halvings
        self.items: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, item: MatchItem) -> None:
        """Encodes an item: latents [n_images, C, h, w], text vectors [n_texts, m, D], match."""
        with torch.no_grad():
            images = [np.asarray(image) for image in item.images]
            latents = torch.stack([self.reference.latent(image, self.resolution) for image in images])
            texts = torch.stack([self.reference.embed(text) for text in item.texts])
        self.items.append((latents, texts, torch.tensor(item.match)))

    def step(self, indices: Sequence[int], timesteps: np.ndarray, noise: np.ndarray) -> float:
        """One optimiser step on all pairs of the items; `timesteps` [items, k], `noise` [items, k, C, h, w]."""
        self.optimizer.zero_grad()
        losses = []
        noised, times, texts = [], [], []
        for index, ts, draws in zip(indices, timesteps, noise, strict=True):
            latents, vectors, _ = self.items[index]
            for t, eps in zip(ts.tolist(), torch.tensor(draws), strict=True):
                z_t = torch.stack([self.reference.noised(z, eps, t) for z in latents])
                noised.append(z_t.repeat_interleave(len(vectors), 0))
                texts.append(vectors.repeat(len(latents), 1, 1))
                times += [self.reference.clipped(t)] * len(noised[-1])
        self.reference.unet(torch.cat(noised), torch.tensor(times), torch.cat(texts))
        scores = torch.stack([processor.pooled.mean(1) for processor in self.chosen]).mean(0)
        for index in indices:
            latents, vectors, match = self.items[index]
            rows = timesteps.shape[1] * match.numel()
            matrix = scores[:rows].view(-1, *match.shape).mean(0)
            losses.append(self._triplet(matrix / self.temperature, match))
            scores = scores[rows:]
        loss = torch.stack(losses).mean()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def _triplet(self, scores: Tensor, match: Tensor) -> Tensor:
        wrong = scores.masked_fill(match, -torch.inf)
        i, j = match.nonzero(as_tuple=True)
        hardest = torch.maximum(wrong.amax(1)[i], wrong.amax(0)[j])
        return (hardest - scores[i, j] + self.margin).clamp_min(0).mean()

    def deltas(self) -> dict[str, np.ndarray]:
        """By the names of the core's arrays."""
        found = {}
        for key, processor in self.reference.unet.attn_processors.items():
            if isinstance(processor, PoolingProcessor):
                path = key.removesuffix(".processor")
                found[f"{path}.to_k.delta"] = processor.p_k.detach().numpy()
                found[f"{path}.to_v.delta"] = processor.p_v.detach().numpy()
        return found
