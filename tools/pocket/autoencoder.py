"""Training of the VAE, and its use on a whole corpus."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from tools.pocket.architecture import build_vae
from tools.pocket.files import load_state, save_state

_KL = 1e-5  # weight of the divergence from a unit normal, per latent element


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    """uint8 ``[n, h, w, 3]`` to float32 ``[n, 3, h, w]`` in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vae(
    pictures: np.ndarray, state_file: Path, steps: int, batch: int = 32, rate: float = 3e-3, seed: int = 0
) -> AutoencoderKL:
    """A trained VAE; continues from ``state_file``. L1 and L2 reconstruction with a little KL."""
    torch.manual_seed(seed)
    vae = build_vae().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=1e-4)
    start = 0
    if (state := load_state(state_file)) is not None:
        vae.load_state_dict(state["vae"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
    vae.train()
    began = time.time()
    for step in range(start, steps):
        rows = np.random.default_rng((seed, step)).integers(0, len(pictures), batch)
        pixels = to_pixels(pictures[rows]).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(pixels).latent_dist
            decoded = vae.decode(posterior.sample()).sample.float()
        difference = decoded - pixels
        kl = 0.5 * (
            posterior.mean.float() ** 2 + posterior.logvar.float().exp() - 1 - posterior.logvar.float()
        )
        loss = difference.abs().mean() + 4 * difference.square().mean() + _KL * kl.mean() * kl[0].numel()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = rate * min((step + 1) / 100, max(0.01, min(1.0, (steps - step) / (0.2 * steps))))
        optimiser.step()
        if (step + 1) % 25 == 0 or step + 1 == steps:
            error = difference.detach().square().mean().sqrt().item() * 127.5
            print(
                f"vae {step + 1} loss {loss.item():.4f} rmse {error:.2f}/255 {time.time() - began:.0f}s",
                flush=True,
            )
        if (step + 1) % 200 == 0 or step + 1 == steps:
            save_state(
                state_file, {"vae": vae.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            )
    return vae.eval()


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: np.ndarray, batch: int = 250) -> torch.Tensor:
    """Means of the posterior, not scaled: float32 ``[n, 4, 8, 8]``."""
    parts = [
        vae.encode(to_pixels(pictures[i : i + batch])).latent_dist.mean
        for i in range(0, len(pictures), batch)
    ]
    return torch.cat(parts)


@torch.no_grad()
def reconstruction_error(vae: AutoencoderKL, pictures: np.ndarray) -> float:
    """Root mean square of decode(encode(x)) - x in grey levels (0 to 255)."""
    pixels = to_pixels(pictures)
    decoded = vae.decode(vae.encode(pixels).latent_dist.mean).sample
    return (decoded - pixels).square().mean().sqrt().item() * 127.5
