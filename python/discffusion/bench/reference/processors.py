"""Attention processors for diffusers: the layer's usual output, and what the method needs of its map."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

__all__ = ["ExplicitProcessor", "PoolingProcessor", "RecordingProcessor"]


def _heads(attn: Any, x: Any) -> Any:
    """``[B, tokens, H·d]`` → ``[B, H, tokens, d]``."""
    return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def _project(attn: Any, hidden_states: Any, context: Any) -> tuple[Any, Any, Any]:
    """Queries ``[B, H, n, d]``, keys and values ``[B, H, m, d]``."""
    q, k = _heads(attn, attn.to_q(hidden_states)), _heads(attn, attn.to_k(context))
    return q, k, _heads(attn, attn.to_v(context))


class RecordingProcessor:
    """Cross-attention that keeps its queries ``q`` ``[B, H, n, d]`` and keys ``k`` ``[B, H, m, d]``."""

    def __init__(self) -> None:
        self.q = self.k = torch.empty(0)

    def __call__(self, attn: Any, hidden_states: Any, encoder_hidden_states: Any, **_: Any) -> Any:
        self.q, self.k, v = _project(attn, hidden_states, encoder_hidden_states)
        logits = self.q @ self.k.mT / self.q.shape[-1] ** 0.5
        mixed = logits.softmax(-1) @ v
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))


class PoolingProcessor:
    """Cross-attention that leaves its pooled map behind; the quickest way there is with a processor.

    Attributes:
        map: which; None for none, and torch's fused attention.
        pooled: log-sum-exp over the text's tokens, mean over image tokens and heads: float32 ``[B]``.
    """

    def __init__(self) -> None:
        self.map: str | None = "logits"
        self.pooled = torch.empty(0)

    def __call__(self, attn: Any, hidden_states: Any, encoder_hidden_states: Any, **_: Any) -> Any:
        q, k, v = _project(attn, hidden_states, encoder_hidden_states)
        if self.map == "cosine":
            cosine = functional.normalize(q.float(), dim=-1) @ functional.normalize(k.float(), dim=-1).mT
            self.pooled = cosine.logsumexp(-1).mean((1, 2))
        if self.map in ("cosine", None):
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            logits = ((q * attn.scale) @ k.mT).float()
            sums = logits.logsumexp(-1, keepdim=True)
            probs = logits.sub_(sums).exp_()  # the softmax, from the sums that are there anyway
            self.pooled = (sums if self.map == "logits" else probs.logsumexp(-1)).mean((1, 2)).flatten()
            mixed = probs.to(v.dtype) @ v
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))


class ExplicitProcessor:
    """Attention with its map in full, as the released code has it; the log-sum-exp of the logits over keys is always
    taken.

    Attributes:
        pooled: of a cross-attention layer, the mean over heads and image tokens, float32 ``[B]``.
    """

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self.pooled = torch.empty(0)

    def __call__(self, attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, **_: Any) -> Any:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (x.flatten(0, 1) for x in _project(attn, hidden_states, context))  # [B · H, tokens, d]
        logits = torch.baddbmm(
            q.new_empty(q.shape[0], q.shape[1], k.shape[1]), q, k.transpose(1, 2), beta=0, alpha=attn.scale
        )
        pooled = logits.logsumexp(-1)
        if self.keep:
            self.pooled = pooled.float().mean(1).unflatten(0, (-1, attn.heads)).mean(1)
        mixed = torch.bmm(logits.softmax(-1), v)
        return attn.to_out[0](mixed.unflatten(0, (-1, attn.heads)).transpose(1, 2).flatten(2))
