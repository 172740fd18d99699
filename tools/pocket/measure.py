"""Zero-shot matching accuracy of a model in training, by denoising error and by every simple reading of its attention
maps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from discffusion.bench.reference.layers import layer_names
from discffusion.bench.reference.pooling import attention_map, pool
from discffusion.bench.reference.processors import RecordingProcessor
from tools.pocket.architecture import build_scheduler
from tools.pocket.diffusion import Denoiser

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


def options() -> list[str]:
    """Names ``map/pooling/tokens`` of every reading of an attention map."""
    poolings = (*(f"lse{scale:g}" for scale in LAMBDAS), "max_row", "max_col", "mean")
    return [
        f"{m}/{p}/{t}" for m in ("logits", "probs", "cosine") for p in poolings for t in ("all", "content")
    ]


def _pool(recorder: RecordingProcessor, content: torch.Tensor, wanted: list[str]) -> dict[str, torch.Tensor]:
    """Option -> ``[batch]``, mean over heads; ``content`` ``[batch, tokens]`` marks the prompt's own tokens."""
    query, key = recorder.q.float(), recorder.k.float()
    maps = {kind: attention_map(query, key, kind) for kind in {option.split("/")[0] for option in wanted}}
    pooled = {}
    for option in wanted:
        kind, pooling, tokens = option.split("/")
        scale = float(pooling.removeprefix("lse")) if pooling.startswith("lse") else 1.0
        keep = content[:, None] if tokens == "content" else None
        pooled[option] = pool(maps[kind], "lse" if pooling.startswith("lse") else pooling, scale, keep).mean(
            1
        )
    return pooled


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
    wanted = options() if wanted is None else wanted
    layers = layer_names(before)
    recorders = {name: RecordingProcessor() for name in layers}
    model.unet.set_attn_processor({**before, **{layers[name]: one for name, one in recorders.items()}})
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
        guess = model.unet(wide, when, given).sample.unflatten(0, pair)
        errors.append((guess - target[:, :, None]).flatten(4).norm(dim=-1))
        own = content[:, None, :, None].expand(*pair, -1).flatten(0, 3)
        by_layer = [_pool(recorder, own, wanted) for recorder in recorders.values()]
        pooled.append({o: torch.stack([one[o] for one in by_layer], -1).unflatten(0, pair) for o in wanted})
        flat = noisy.flatten(0, 2)
        guess = model.unet(flat, times.expand(b, 2, t).flatten(), blank.expand(len(flat), -1, -1)).sample
        blanks.append((guess.unflatten(0, (b, 2, t)) - target).flatten(3).norm(dim=-1))
    model.unet.set_attn_processor(before)
    return Readings(
        error=torch.cat(errors).float().numpy(),
        blank=torch.cat(blanks).float().numpy(),
        signal=abar.sqrt().numpy(),
        pooled={option: torch.cat([part[option] for part in pooled]).float().numpy() for option in pooled[0]},
        layers=list(layers),
        timesteps=times.tolist(),
    )


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
