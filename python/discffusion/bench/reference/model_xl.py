"""Stable Diffusion XL in PyTorch: two text encoders, and a condition added to the time embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from discffusion.bench.reference.model import Conditioning, Reference

__all__ = ["ReferenceXL"]


class ReferenceXL(Reference):
    """As :class:`Reference`; the first tokenizer pads with ``<|endoftext|>``, the second with ``!``.

    The prompt's own tokens are at the same columns in both; the VAE runs in float32 here, as ``force_upcast`` asks.
    """

    def condition(self, text: str) -> Conditioning:
        """The output of the last layer but one of both encoders, before the final norm, side by side; and the second
        encoder's projection of its end-of-text token."""
        outputs = [
            encoder.model(encoder.tokens(text)[0], output_hidden_states=True) for encoder in self.encoders
        ]
        context = torch.cat([output.hidden_states[-2][0] for output in outputs], dim=-1)
        return Conditioning(context, outputs[1].text_embeds[0])

    def unconditional(self) -> Conditioning:
        """Zeros in place of the empty text where ``model_index.json`` says ``force_zeros_for_empty_prompt``, as the
        pipeline has it."""
        empty = self.condition("")
        if not self.index.get("force_zeros_for_empty_prompt", True):
            return empty
        return Conditioning(torch.zeros_like(empty.context), torch.zeros_like(empty.pooled))

    def time_ids(self, z_t: Any) -> Any:
        """Original height and width, top and left of the crop, target height and width, in pixels: ``[6]``. The image
        is what the model sees, not cropped."""
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        size = [factor * side for side in z_t.shape[-2:]]
        return torch.tensor([*size, 0, 0, *size])

    def unet_arguments(self, z_t: Any, conditionings: Sequence[Conditioning]) -> dict[str, Any]:
        pooled = torch.stack([conditioning.pooled for conditioning in conditionings])
        time_ids = self.time_ids(z_t).expand(len(pooled), -1)
        added = {"text_embeds": pooled.to(z_t.dtype), "time_ids": time_ids.to(z_t.dtype)}
        return {**super().unet_arguments(z_t, conditionings), "added_cond_kwargs": added}
