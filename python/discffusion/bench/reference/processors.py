"""Attention processors for diffusers: the layer's usual output, and what the method needs of its map."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["RecordingProcessor", "project", "split_heads"]


def split_heads(attn: Any, x: Any) -> Any:
    """``[B, tokens, H·d]`` → ``[B, H, tokens, d]``."""
    return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def project(attn: Any, hidden_states: Any, context: Any) -> tuple[Any, Any, Any]:
    """Queries ``[B, H, n, d]``, keys and values ``[B, H, m, d]``."""
    q = split_heads(attn, attn.to_q(hidden_states))
    return q, split_heads(attn, attn.to_k(context)), split_heads(attn, attn.to_v(context))


class RecordingProcessor:
    """Cross-attention that keeps its queries ``q`` ``[B, H, n, d]`` and keys ``k`` ``[B, H, m, d]``."""

    def __init__(self) -> None:
        self.q = self.k = torch.empty(0)

    def __call__(self, attn: Any, hidden_states: Any, encoder_hidden_states: Any, **_: Any) -> Any:
        self.q, self.k, v = project(attn, hidden_states, encoder_hidden_states)
        logits = self.q @ self.k.transpose(-1, -2) / self.q.shape[-1] ** 0.5
        mixed = logits.softmax(-1) @ v
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))
