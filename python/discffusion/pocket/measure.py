"""Zero-shot matching accuracy of a model, by denoising error and by every simple reading of its attention maps.

A small PyTorch reference for development; it stands apart from the package's own scorer.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from discffusion.pocket.architecture import build_scheduler
from discffusion.pocket.diffusion import Denoiser

LAMBDAS = (1.0, 10.0, 30.0)


class Readings(NamedTuple):
    """Everything a score is made of, for items of 2 images and 2 texts each.

    Attributes:
        error: ``[items, 2, 2, timesteps]``, norm of the v error given the text.
        blank: ``[items, 2, timesteps]``, norm of the v error given the empty text.
        signal: ``[timesteps]``, sqrt of alpha-bar (v error times this is the epsilon error).
        pooled: option -> ``[items, 2, 2, timesteps, layers]``, mean over heads.
        layers: names of the cross-attention layers, in forward order.
        timesteps: noisiest first.
    """

    error: np.ndarray
    blank: np.ndarray
    signal: np.ndarray
    pooled: dict[str, np.ndarray]
    layers: list[str]
    timesteps: list[int]


class Recorder:
    """Attention processor that leaves the pooled maps of a cross-attention layer in ``found``."""

    def __init__(self, wanted: list[str]) -> None:
        self.wanted = wanted
        self.plain = AttnProcessor2_0()
        self.found: dict[str, torch.Tensor] = {}
        self.content: torch.Tensor | None = None  # bool [batch, tokens]

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if self.content is not None and encoder_hidden_states is not None:
            query, key = (
                x.unflatten(-1, (attn.heads, -1)).transpose(1, 2).float()
                for x in (attn.to_q(hidden_states), attn.to_k(encoder_hidden_states))
            )
            self.found = _pool(query, key, self.content, self.wanted)
        return self.plain(attn, hidden_states, encoder_hidden_states, *args, **kwargs)


def options() -> list[str]:
    """Names ``map/pooling/tokens`` of every reading of an attention map."""
    poolings = (*(f"lse{scale:g}" for scale in LAMBDAS), "max_row", "max_col", "mean")
    return [
        f"{m}/{p}/{t}" for m in ("logits", "probs", "cosine") for p in poolings for t in ("all", "content")
    ]


def _pool(
    query: torch.Tensor, key: torch.Tensor, content: torch.Tensor, wanted: list[str]
) -> dict[str, torch.Tensor]:
    """Option -> ``[batch]``, mean over heads."""
    logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    norms = query.norm(dim=-1)[..., None] * key.norm(dim=-1)[..., None, :]
    maps = {
        "logits": logits,
        "probs": logits.softmax(-1),
        "cosine": logits * math.sqrt(query.shape[-1]) / norms.clamp_min(1e-6),
    }
    found = {}
    for option in wanted:
        name, pooling, tokens = option.split("/")
        keep = content if tokens == "content" else torch.ones_like(content)
        found[option] = _pool_one(maps[name], pooling, keep[:, None])
    return found


def _pool_one(full: torch.Tensor, pooling: str, keep: torch.Tensor) -> torch.Tensor:
    """``full`` ``[batch, heads, pixels, tokens]``, ``keep`` ``[batch, 1, tokens]``; ``[batch]``."""
    if pooling in ("max_col", "mean"):
        columns = full.amax(2) if pooling == "max_col" else full.mean(2)
        return ((columns * keep).sum(-1) / keep.sum(-1).clamp_min(1)).mean(1)
    some = full.masked_fill(~keep[:, :, None], -torch.inf)
    if pooling == "max_row":
        return some.amax(-1).mean((1, 2))
    scale = float(pooling.removeprefix("lse"))
    return (torch.logsumexp(scale * some, -1) / scale).mean((1, 2))


@torch.no_grad()
def read(
    model: Denoiser,
    latents: torch.Tensor,
    tokens: torch.Tensor,
    timesteps: list[int] | None = None,
    seed: int = 0,
    chunk: int = 4,
    wanted: list[str] | None = None,
) -> Readings:
    """Run every pair of every item, with noise shared within an item.

    Args:
        latents: ``[items, 2, 4, 8, 8]``, scaled.
        tokens: int64 ``[items, 2, 77]``, begin, prompt, then end and padding (both the last id).
        timesteps: None for the ten of the scheduler's trailing schedule.
        wanted: some of :func:`options`; None for all.
    """
    scheduler = build_scheduler()
    scheduler.set_timesteps(10)
    times = scheduler.timesteps if timesteps is None else torch.tensor(timesteps)
    abar = scheduler.alphas_cumprod[times]
    signal, spread = abar.sqrt()[:, None, None, None], (1 - abar).sqrt()[:, None, None, None]
    eos = int(tokens.max())
    blank_tokens = torch.full((1, tokens.shape[-1]), eos)
    blank_tokens[0, 0] = tokens[0, 0, 0]
    blank = model.text(input_ids=blank_tokens).last_hidden_state
    before = dict(model.unet.attn_processors)
    layers, recorders = _attach(model, options() if wanted is None else wanted)
    errors, blanks, pooled = [], [], []
    for first in range(0, len(latents), chunk):
        z, ids = latents[first : first + chunk], tokens[first : first + chunk]
        b, t = len(z), len(times)
        generator = torch.Generator().manual_seed(seed * 100003 + first)
        noise = torch.randn((b, 1, t, *z.shape[2:]), generator=generator).expand(-1, 2, -1, -1, -1, -1)
        clean = z[:, :, None].expand(-1, -1, t, -1, -1, -1)
        noisy, target = signal * clean + spread * noise, signal * noise - spread * clean
        words = model.text(input_ids=ids.flatten(0, 1)).last_hidden_state.unflatten(0, (b, 2))
        content = (ids != eos) & (torch.arange(ids.shape[-1]) > 0)
        pair = (b, 2, 2, t)  # item, image, text, timestep
        wide = noisy[:, :, None].expand(*pair, *z.shape[2:]).flatten(0, 3)
        when = times.expand(pair).flatten()
        given = words[:, None, :, None].expand(*pair, *words.shape[2:]).flatten(0, 3)
        for recorder in recorders:
            recorder.content = content[:, None, :, None].expand(*pair, -1).flatten(0, 3)
        guess = model.unet(wide, when, given).sample.unflatten(0, pair)
        errors.append((guess - target[:, :, None]).flatten(4).norm(dim=-1))
        found = [recorder.found for recorder in recorders]
        pooled.append({o: torch.stack([f[o] for f in found], -1).unflatten(0, pair) for o in found[0]})
        for recorder in recorders:
            recorder.content = None
        flat = noisy.flatten(0, 2)
        guess = model.unet(flat, times.expand(b, 2, t).flatten(), blank.expand(len(flat), -1, -1)).sample
        blanks.append((guess.unflatten(0, (b, 2, t)) - target).flatten(3).norm(dim=-1))
    model.unet.set_attn_processor(before)
    return Readings(
        error=torch.cat(errors).float().numpy(),
        blank=torch.cat(blanks).float().numpy(),
        signal=abar.sqrt().numpy(),
        pooled={option: torch.cat([part[option] for part in pooled]).float().numpy() for option in pooled[0]},
        layers=layers,
        timesteps=times.tolist(),
    )


def _attach(model: Denoiser, wanted: list[str]) -> tuple[list[str], list[Recorder]]:
    """A recorder on every cross-attention layer, in forward order."""
    processors: dict[str, Any] = dict(model.unet.attn_processors)
    order = {"down": 0, "mid": 1, "up": 2}
    names = sorted((n for n in processors if "attn2" in n), key=lambda n: (order[n.split("_")[0]], n))
    recorders = [Recorder(wanted) for _ in names]
    processors.update(zip(names, recorders, strict=True))
    model.unet.set_attn_processor(processors)
    return [name.split(".transformer_blocks")[0] for name in names], recorders


def accuracy(scores: np.ndarray) -> np.ndarray:
    """Which comparisons are right, ``[items, 4]`` (two of images, two of texts), for ``[items, image, text]``."""
    (a, b), (c, d) = scores[:, 0].T, scores[:, 1].T
    return np.stack([a > c, d > b, a > b, d > c], axis=1)


def at(readings: Readings, timesteps: list[int]) -> Readings:
    """The readings of some of the timesteps."""
    chosen = [readings.timesteps.index(t) for t in timesteps]
    return readings._replace(
        error=readings.error[..., chosen],
        blank=readings.blank[..., chosen],
        signal=readings.signal[chosen],
        pooled={option: x[..., chosen, :] for option, x in readings.pooled.items()},
        timesteps=timesteps,
    )


def denoising_scores(readings: Readings) -> dict[str, np.ndarray]:
    """Name -> ``[items, 2, 2]``, the mean over the timesteps."""
    error, blank = readings.error, readings.blank[:, :, None]
    return {
        "denoising/v": -error.mean(-1),
        "denoising/v/minus-blank": (blank - error).mean(-1),
        "denoising/epsilon": -(error * readings.signal).mean(-1),
        "denoising/epsilon/minus-blank": ((blank - error) * readings.signal).mean(-1),
    }


def attention_scores(readings: Readings, last: int | None = None) -> dict[str, np.ndarray]:
    """Option -> ``[items, 2, 2]``, the mean over the timesteps and the last layers in forward order (None: all)."""
    first = 0 if last is None else len(readings.layers) - last
    return {option: x[..., first:].mean((-1, -2)) for option, x in readings.pooled.items()}
