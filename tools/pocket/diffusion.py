"""Joint training of the UNet and the text encoder on latents that were encoded once."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

from tools.pocket.architecture import build_scheduler, build_text_encoder, build_unet
from tools.pocket.corpus import WEIGHTS
from tools.pocket.files import load_state, save_state


@dataclass(frozen=True)
class Recipe:
    """How the UNet is trained; the learning rate is constant after a warm-up and falls linearly at the end."""

    steps: int = 2150
    decay_steps: int = 650
    captions: int = 64  # per step
    draws: int = 2  # timesteps and noises per caption
    rate: float = 1.6e-3
    warm_up: int = 200
    dropout: float = 0.1  # share of empty captions
    high_noise: float = 0.5  # timesteps are t = 1000 u^high_noise: 1 is uniform, less favours noise
    ema: float = 0.999
    seed: int = 0
    compiled: bool = True

    def rate_at(self, step: int) -> float:
        rest = (self.steps - step) / max(1, self.decay_steps)
        return self.rate * min((step + 1) / self.warm_up, max(0.01, min(1.0, rest)))


class Material(NamedTuple):
    """Attributes:
    latents: float32 ``[n, 4, 8, 8]``, scaled to unit variance.
    tokens: int64 ``[captions, 77]``; the first is the empty caption.
    choices: int32 ``[n, kinds]``, rows of ``tokens``.
    """

    latents: torch.Tensor
    tokens: torch.Tensor
    choices: np.ndarray


class Denoiser(nn.Module):
    """Text encoder and UNet: the prediction for noisy latents under captions."""

    def __init__(self, unet: UNet2DConditionModel, text: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text = unet, text

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """``noisy`` ``[draws * b, ...]`` goes with ``tokens`` ``[b, 77]``, repeated ``draws`` times."""
        words = self.text(input_ids=tokens).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            words = words.repeat(len(noisy) // len(tokens), 1, 1)
            return self.unet(noisy, timesteps, words).sample.float()


def build(vocab_size: int, bos: int, eos: int, seed: int = 0) -> Denoiser:
    torch.manual_seed(seed)
    return Denoiser(build_unet(), build_text_encoder(vocab_size, bos, eos))


def train(
    model: Denoiser,
    material: Material,
    recipe: Recipe,
    state_file: Path,
    every: int = 1000,
    check: Callable[[Denoiser, int], None] | None = None,
) -> Denoiser:
    """Train up to ``recipe.steps``, from ``state_file`` where it exists; returns the averaged weights.

    ``check`` gets the averaged model and the number of steps done, each ``every`` steps. Where torch.distributed
    is up, each process takes its part of the batch, and the first one saves and checks.
    """
    rank, workers = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    torch.manual_seed(recipe.seed)
    averaged = copy.deepcopy(model).eval().requires_grad_(False)
    model.unet.to(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98))
    start = 0
    if (state := load_state(state_file)) is not None:
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
    abar = build_scheduler().alphas_cumprod
    forward = torch.compile(model) if recipe.compiled else model
    began, losses = time.time(), []
    for step in range(start, recipe.steps):
        noisy, timesteps, target, tokens = _batch(material, recipe, abar, step, rank, workers)
        loss = (forward(noisy, timesteps, tokens) - target).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if workers > 1:
            _share_gradients(model, workers)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate_at(step)
        optimiser.step()
        if rank > 0:
            continue
        _average(averaged, model, min(recipe.ema, (1 + step) / (10 + step)))
        losses.append(loss.item())
        done = step + 1
        if done % 100 == 0:
            pace = (time.time() - began) / (done - start)
            print(f"unet {done} loss {np.mean(losses[-100:]):.4f} {pace:.3f} s/step", flush=True)
        if done % 250 == 0 or done == recipe.steps:
            save_state(state_file, {
                "model": model.state_dict(), "averaged": averaged.state_dict(),
                "optimiser": optimiser.state_dict(), "step": done,
            })  # fmt: skip
        if check is not None and (done % every == 0 or done == recipe.steps):
            check(averaged, done)
    return averaged


def _batch(
    material: Material, recipe: Recipe, abar: torch.Tensor, step: int, rank: int, workers: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy latents, timesteps, v-targets and tokens of one step, one worker's part of them.

    The whole batch depends on the seed and the step alone.
    """
    rng = np.random.default_rng((recipe.seed, step))
    rows = rng.integers(0, len(material.latents), recipe.captions)
    kinds = rng.choice(len(WEIGHTS), recipe.captions, p=WEIGHTS)
    captions = material.choices[rows, kinds]
    captions[rng.random(recipe.captions) < recipe.dropout] = 0
    # evenly spread over the batch, which makes the loss less noisy
    shape = (recipe.draws, recipe.captions)
    u = (rng.permutation(shape[0] * shape[1]) + rng.random(shape[0] * shape[1])) / (shape[0] * shape[1])
    times = np.minimum(999, 1000 * u**recipe.high_noise).astype(np.int64).reshape(shape)
    noise = rng.standard_normal((*shape, *material.latents.shape[1:]), dtype=np.float32)

    mine = slice(rank, None, workers)
    timesteps = torch.from_numpy(times[:, mine].flatten())
    eps = torch.from_numpy(noise[:, mine]).flatten(0, 1)
    latents = material.latents[rows[mine]].repeat(recipe.draws, 1, 1, 1)
    signal = abar[timesteps].sqrt()[:, None, None, None]
    spread = (1 - abar[timesteps]).sqrt()[:, None, None, None]
    noisy, target = signal * latents + spread * eps, signal * eps - spread * latents
    return noisy, timesteps, target, material.tokens[torch.from_numpy(captions[mine])]


def _share_gradients(model: nn.Module, workers: int) -> None:
    """Replace every gradient with its mean over the workers."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= workers
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def _average(averaged: Denoiser, model: Denoiser, keep: float) -> None:
    torch._foreach_lerp_(list(averaged.parameters()), list(model.parameters()), 1 - keep)
