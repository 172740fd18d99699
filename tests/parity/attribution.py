"""Eq. 7 by autograd: the gradient of a layer's own score, and that of the whole score through diffusers' UNet
(method, section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from discffusion.bench.reference.pooling import pool, select

if TYPE_CHECKING:
    from tests.parity.training import Trainable

Tensors = Mapping[str, Tensor]


def local_gradient(maps: Tensor, pooling: str, lambda_: float) -> Tensor:
    """`∂f/∂A` of one layer's maps [H, n, m], f its mean over heads; a constant."""
    maps = maps.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(pool(maps, pooling, lambda_).mean(), maps)
    return gradient


def local_weights(maps: Tensor, pooling: str, lambda_: float) -> Tensor:
    """`w_h` [H] of mean 1, a constant."""
    return normalised(maps.detach() * local_gradient(maps, pooling, lambda_))


def normalised(attributed: Tensor) -> Tensor:
    """`w_h ∝ mean_ij |Attr_h|`, of mean 1 over the heads; maps [H, n, m]."""
    strength = attributed.abs().mean((-1, -2))
    return strength / strength.mean()


def head_weights(
    model: Trainable, z_t: Tensor, t: int, text: str, deltas: Tensors, config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """`w_h` [H] for every chosen site, of one noised latent [C, h, w]; constants."""
    chosen = select(model.sites, config["layers"])
    maps, gradients = _gradients(model, z_t, t, text, deltas, config)
    if config["attribution"] == "local":
        own = model.reference.tokens(text)[1] if config.get("tokens") == "content" else slice(None)
        return {
            site: local_weights(maps[site][..., own], config["pooling"], config["lambda_"]) for site in chosen
        }
    if config["attribution"] == "integrated":
        steps = config["attribution_steps"]

        def at(site: str, a: int) -> Tensor:
            return _gradients(model, z_t, t, text, deltas, config, {site: a / steps})[1][site]

        gradients = {site: torch.stack([at(site, a) for a in range(1, steps + 1)]).mean(0) for site in chosen}
    return {site: normalised(maps[site] * gradients[site]) for site in chosen}


def _gradients(
    model: Trainable,
    z_t: Tensor,
    t: int,
    text: str,
    deltas: Tensors,
    config: Mapping[str, Any],
    scales: Mapping[str, float] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The maps [H, n, m] of the chosen sites, scaled where `scales` says so, and the gradients of the whole score
    (mean over heads and chosen layers) with respect to them, through everything downstream."""
    chosen = select(model.sites, config["layers"])
    for site, processor in model.processors.items():
        processor.scale = (scales or {}).get(site, 1.0)
    with torch.enable_grad():
        _, maps = model.run(z_t[None], t, [text], deltas, config["map"])
        score = model.attention_scores(maps, [text], **{**config, "heads": "mean"})
        found = torch.autograd.grad(score.sum(), [maps[site] for site in chosen])
    for processor in model.processors.values():
        processor.scale = 1.0
    seen = {site: maps[site][0].detach() for site in chosen}
    return seen, {site: gradient[0] for site, gradient in zip(chosen, found, strict=True)}
