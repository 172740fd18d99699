"""Stable Diffusion 3 in PyTorch: joint attention, of which the block of image rows and text columns is the map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from discffusion.bench.reference.conditioning import Conditioning
from discffusion.bench.reference.model import Reference
from discffusion.bench.reference.pooling import attention_map

__all__ = ["JointObservation", "JointProcessor", "JointReference", "joint_map", "normed", "of_folder"]


def of_folder(folder: Path, variant: str | None = None) -> Reference:
    """The reference of a checkpoint folder of any family."""
    kind = JointReference if (folder / "transformer").is_dir() else Reference
    return kind(folder, variant)


def joint_map(q: Any, image: Any, text: Any, kind: str) -> Any:
    """The map ``[..., n, m]`` of the image's queries ``[..., n, d]``, of the image's keys ``[..., n, d]`` and the
    text's ``[..., m, d]``: a part of the softmax over both, or what depends on the text's keys alone."""
    if kind != "probs":
        return attention_map(q, text, "probs" if kind == "text_probs" else kind)
    return attention_map(q, torch.cat([image, text], dim=-2), kind)[..., image.shape[-2] :]


class JointProcessor:
    """Joint attention that keeps the image's queries ``q`` and keys ``k``, and the text's keys ``text_k``,
    ``[B, H, tokens, d]``."""

    def __init__(self) -> None:
        self.q = self.k = self.text_k = torch.empty(0)

    def __call__(
        self, attn: Any, hidden_states: Any, encoder_hidden_states: Any, **_: Any
    ) -> tuple[Any, Any]:
        def heads(name: str, x: Any) -> Any:
            return normed(attn, name, getattr(attn, name)(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2))

        n = hidden_states.shape[1]
        self.q, self.k, v = (heads(name, hidden_states) for name in ("to_q", "to_k", "to_v"))
        names = ("add_q_proj", "add_k_proj", "add_v_proj")
        text_q, self.text_k, text_v = (heads(name, encoder_hidden_states) for name in names)
        q, k = torch.cat([self.q, text_q], dim=2), torch.cat([self.k, self.text_k], dim=2)
        mixed = attention_map(q, k, "probs") @ torch.cat([v, text_v], dim=2)
        image, text = mixed.transpose(1, 2).flatten(2).tensor_split([n], dim=1)
        return attn.to_out[0](image), text if attn.context_pre_only else attn.to_add_out(text)


def normed(attn: Any, name: str, x: Any) -> Any:
    """Queries and keys ``[B, H, tokens, d]`` as the layer's norms leave them."""
    norms = {"to_q": "norm_q", "to_k": "norm_k", "add_q_proj": "norm_added_q", "add_k_proj": "norm_added_k"}
    norm = getattr(attn, norms[name]) if name in norms else None
    return x if norm is None else norm(x)


@dataclass(frozen=True)
class JointObservation:
    """One pass of the transformer: the prediction ``[C, h, w]``, and of each layer the image's queries and keys
    ``[H, n, d]`` and the text's keys ``[H, m, d]``."""

    prediction: Any
    layers: dict[str, tuple[Any, Any, Any]]

    def map(self, layer: str, kind: str) -> Any:
        """The map ``[H, n, m]`` of one layer, float64 so that pooling adds no error of its own."""
        q, image, text = (x.double() for x in self.layers[layer])
        return joint_map(q, image, text, kind)


class JointReference(Reference):
    """A checkpoint folder of Stable Diffusion 3 as diffusers and transformers read it."""

    recorder = JointProcessor

    def processor_keys(self) -> dict[str, str]:
        """The name of each layer → the key of its attention processor, in forward order."""
        blocks = range(len(self.unet.transformer_blocks))
        return {f"block.{i}": f"transformer_blocks.{i}.attn.processor" for i in blocks}

    def unet_arguments(self, z_t: Any, conditionings: Sequence[Conditioning]) -> dict[str, Any]:
        """Keyword arguments of the transformer for as many texts as latents ``[B, C, h, w]``, in their dtype."""
        both = Conditioning.stack(conditionings)
        context, pooled = both.context.to(z_t.dtype), both.pooled.to(z_t.dtype)
        return {"encoder_hidden_states": context, "pooled_projections": pooled}

    def predict(self, network: Any, z_t: Any, t: float, arguments: dict[str, Any]) -> Any:
        """The prediction ``[B, C, h, w]``."""
        times = torch.full((len(z_t),), t, dtype=torch.float64)
        return network(hidden_states=z_t, timestep=times, **arguments).sample

    def observe(self, z_t: Any, t: float, conditioning: Conditioning) -> Any:
        """One pass of the transformer."""
        arguments = self.unet_arguments(z_t[None], [conditioning])
        prediction = self.predict(self.unet, z_t[None], t, arguments)[0]
        layers = {name: (kept.q[0], kept.k[0], kept.text_k[0]) for name, kept in self.layers.items()}
        return JointObservation(prediction, layers)
