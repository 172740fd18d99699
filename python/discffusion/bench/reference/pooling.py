"""Maps, pooling, heads and layers, on tensors of any float dtype.

Gradients come from autograd, so that the core's closed forms are checked against something that is not a formula of
ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from discffusion.bench.reference.layers import block_of

__all__ = ["attention_map", "attention_score", "layer_score", "pool", "select"]


def attention_map(q: Any, k: Any, kind: str) -> Any:
    """The map ``[..., n, m]`` of queries ``[..., n, d]`` and keys ``[..., m, d]`` (method, section 2): logits
    ``QKᵀ/√d``, probabilities over all text tokens, or the cosine of queries and keys."""
    if kind == "cosine":
        return functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).mT
    logits = q @ k.mT / q.shape[-1] ** 0.5
    return logits if kind == "logits" else logits.softmax(-1)


def pool(maps: Any, pooling: str = "lse", lambda_: float = 1.0, keep: Any = None) -> Any:
    """One number ``[...]`` a map ``[..., n, m]``: Eq. 4 and the ablations of Table 3 (method, section 3).

    Args:
        keep: bool ``[..., m]``, which text tokens are pooled; None for all. Axes before the last spread as usual.
    """
    if pooling in ("max_col", "mean"):
        columns = maps.amax(-2) if pooling == "max_col" else maps.mean(-2)
        return columns.mean(-1) if keep is None else (columns * keep).sum(-1) / keep.sum(-1)
    rows = maps if keep is None else maps.masked_fill(~keep[..., None, :], -torch.inf)
    if pooling == "lse":
        return (lambda_ * rows).logsumexp(-1).mean(-1) / lambda_
    if pooling == "max_row":
        return rows.amax(-1).mean(-1)
    raise ValueError(pooling)


def layer_score(
    maps: Any,
    heads: str | Sequence[int] = "mean",
    attribution: str = "local",
    pooling: str = "lse",
    lambda_: float = 1.0,
) -> Any:
    """One layer's score of its maps ``[H, n, m]``: heads weighed as in Eq. 7 (method, section 5)."""
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


def select(names: Sequence[str], layers: str | Sequence[str]) -> list[str]:
    """The layers, given in forward order, that ``layers`` stands for."""
    if not isinstance(layers, str):
        return list(layers)
    if layers == "all":
        return list(names)
    if layers in ("down", "mid", "up", "block"):
        return [name for name in names if name.startswith(layers + ".")]
    if layers == "last_blocks":
        last = {name.split(".")[0]: block_of(name) for name in names}  # the last of a group wins
        return [name for name in names if block_of(name) in last.values()]
    count = re.fullmatch(r"last\((\d+)\)", layers)
    assert count, layers
    return list(names)[-int(count[1]) :]


def attention_score(maps: dict[str, Any], layers: str | Sequence[str] = "all", **options: Any) -> float:
    """The mean over the chosen layers."""
    chosen = select(list(maps), layers)
    return float(torch.stack([layer_score(maps[name], **options) for name in chosen]).mean())
