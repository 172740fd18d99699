"""Pooling, layers and heads of the reference, on maps [H, n, m] in float64. Gradients come from autograd, so
that the core's closed forms are checked against something that is not a formula of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor


def pool(maps: Tensor, pooling: str = "lse", lambda_: float = 1.0) -> Tensor:
    """One number a head, [H]: Eq. 4 and the ablations of Table 3 (method, section 3)."""
    match pooling:
        case "lse":
            return (lambda_ * maps).logsumexp(-1).mean(-1) / lambda_
        case "max_row":
            return maps.amax(-1).mean(-1)
        case "max_col":
            return maps.amax(-2).mean(-1)
        case "mean":
            return maps.mean((-1, -2))
    raise ValueError(pooling)


def layer_score(
    maps: Tensor,
    heads: str | Sequence[int] = "mean",
    attribution: str = "local",
    pooling: str = "lse",
    lambda_: float = 1.0,
) -> Tensor:
    """One layer's score: heads weighed as in Eq. 7 (method, section 5)."""
    if heads == "mean":
        return pool(maps, pooling, lambda_).mean()
    if not isinstance(heads, str):
        return pool(maps, pooling, lambda_)[list(heads)].mean()
    assert heads == "attributed"
    maps = maps.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(pool(maps, pooling, lambda_).mean(), maps)
    attributed = (maps * gradient).detach()
    if attribution == "elementwise":
        return pool(attributed, pooling, lambda_).mean()
    assert attribution == "local"
    weights = attributed.abs().mean((-1, -2))
    return (weights / weights.mean() * pool(maps.detach(), pooling, lambda_)).mean()


def select(sites: Sequence[str], layers: str | Sequence[str]) -> list[str]:
    """The sites, given in forward order, that `layers` stands for."""
    if not isinstance(layers, str):
        return list(layers)
    if layers == "all":
        return list(sites)
    if layers in ("down", "mid", "up"):
        return [site for site in sites if site.startswith(layers + ".")]
    if layers == "last_blocks":
        last = {site.split(".")[0]: site.rpartition(".")[0] for site in sites}  # the last of a stage wins
        return [site for site in sites if site.rpartition(".")[0] in last.values()]
    count = re.fullmatch(r"last\((\d+)\)", layers)
    assert count, layers
    return list(sites)[-int(count[1]) :]


def attention_score(maps: dict[str, Tensor], layers: str | Sequence[str] = "all", **options: object) -> float:
    """The mean over the chosen layers."""
    chosen = select(list(maps), layers)
    return torch.stack([layer_score(maps[site], **options) for site in chosen]).mean().item()
