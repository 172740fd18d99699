"""What the UNet reads besides the latents and the timestep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from discffusion._extras import need
from discffusion.bench.reference.loading import Parts

__all__ = ["Conditioning", "encode_texts", "guidance", "unet_arguments"]


@dataclass(frozen=True)
class Conditioning:
    """Of texts: ``context`` ``[n, m, D]`` and, for XL, ``pooled`` ``[n, p]``; of one text, without the first axis."""

    context: Any
    pooled: Any = None

    def __getitem__(self, index: Any) -> Conditioning:
        """Of some of the texts, or of one."""
        return Conditioning(self.context[index], None if self.pooled is None else self.pooled[index])

    def expand(self, n: int) -> Conditioning:
        """Of one text ``[1, …]``, as often as there are latents."""
        pooled = None if self.pooled is None else self.pooled.expand(n, -1)
        return Conditioning(self.context.expand(n, -1, -1), pooled)

    @staticmethod
    def stack(each: Sequence[Conditioning]) -> Conditioning:
        """Of several texts from that of each."""
        pooled = None if each[0].pooled is None else torch.stack([one.pooled for one in each])
        return Conditioning(torch.stack([one.context for one in each]), pooled)

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """Of the texts of several, in order."""
        pooled = None if parts[0].pooled is None else torch.cat([part.pooled for part in parts])
        return Conditioning(torch.cat([part.context for part in parts]), pooled)


def encode_texts(parts: Parts, texts: Sequence[str | None]) -> Conditioning:
    """τ(y) of each text; None is no text, which the denoising term compares with.

    In Stable Diffusion 3 as :func:`_of_three`. Otherwise:

    With one encoder its last hidden state, after the final norm. With two, as in XL, the output of the last layer but
    one of each, before the final norm, side by side; and the second encoder's projection of its end-of-text token. No
    text is the empty one; in XL, where ``model_index.json`` says ``force_zeros_for_empty_prompt``, it is zeros.
    """
    strings = [text or "" for text in texts]
    if "transformer" in parts.index:
        return _of_three(parts, strings)
    if len(parts.encoders) == 1:
        (encoder,) = parts.encoders
        return Conditioning(encoder.encode(strings).last_hidden_state)
    outputs = [encoder.encode(strings, output_hidden_states=True) for encoder in parts.encoders]
    context = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    pooled = outputs[1].text_embeds
    if parts.index.get("force_zeros_for_empty_prompt", True):
        absent = torch.tensor([text is None for text in texts], device=context.device)
        context = context.masked_fill(absent[:, None, None], 0)
        pooled = pooled.masked_fill(absent[:, None], 0)
    return Conditioning(context, pooled)


def _of_three(parts: Parts, texts: list[str]) -> Conditioning:
    """The output of the last layer but one of both CLIP encoders side by side, with zeros up to the width of T5's;
    behind it, in place of T5, 256 columns of zeros; and both projections side by side."""
    outputs = [encoder.encode(texts, output_hidden_states=True) for encoder in parts.encoders]
    clip = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    context = clip.new_zeros(len(texts), clip.shape[1] + 256, parts.unet.config.joint_attention_dim)
    context[:, : clip.shape[1], : clip.shape[2]] = clip
    return Conditioning(context, torch.cat([output.text_embeds for output in outputs], dim=-1))


def guidance(parts: Parts, scale: float = 8.5) -> Any:
    """What the UNet of a latent consistency model takes beside the timestep, ``[1, d]``: the guidance scale, by default
    the pipeline's own. None for other models."""
    width = parts.unet.config.time_cond_proj_dim
    if width is None:
        return None
    pipeline = need("diffusers", "bench").LatentConsistencyModelPipeline
    return pipeline.get_guidance_scale_embedding(None, torch.tensor([scale - 1]), embedding_dim=width)


def unet_arguments(parts: Parts, latents: Any, conditioning: Conditioning) -> dict[str, Any]:
    """Keyword arguments of the UNet for latents ``[B, C, h, w]`` and as many texts, in the latents' dtype."""
    embedded = guidance(parts)
    arguments: dict[str, Any] = {
        "encoder_hidden_states": conditioning.context.to(latents.dtype),
        "timestep_cond": None if embedded is None else embedded.to(latents),
    }
    if conditioning.pooled is not None:
        ids = _time_ids(parts, latents).expand(len(latents), -1)
        pooled = conditioning.pooled.to(latents.dtype)
        arguments["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": ids}
    return arguments


def _time_ids(parts: Parts, latents: Any) -> Any:
    """Original height and width, top and left of the crop, target height and width, in pixels: ``[6]``. The image is
    what the model sees, not cropped."""
    factor = 2 ** (len(parts.vae.config.block_out_channels) - 1)
    size = [factor * side for side in latents.shape[-2:]]
    return torch.tensor([*size, 0, 0, *size], dtype=latents.dtype, device=latents.device)
