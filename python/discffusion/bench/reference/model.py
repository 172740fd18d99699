"""A model in PyTorch: one image, one text, one timestep at a time, float32 on the CPU.

Written from the paper's equations and for reading, not for speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from discffusion.bench.reference.conditioning import Conditioning, encode_texts, unet_arguments
from discffusion.bench.reference.layers import layer_names
from discffusion.bench.reference.loading import load_parts
from discffusion.bench.reference.pooling import attention_map
from discffusion.bench.reference.processors import RecordingProcessor

__all__ = ["Observation", "Reference"]


@dataclass(frozen=True)
class Observation:
    """One pass of the UNet: the prediction ``[C, h, w]``, and of each layer its queries ``[H, n, d]`` and keys
    ``[H, m, d]``."""

    prediction: Any
    layers: dict[str, tuple[Any, Any]]

    def map(self, layer: str, kind: str) -> Any:
        """The map ``[H, n, m]`` of one layer, float64 so that pooling adds no error of its own."""
        q, k = self.layers[layer]
        return attention_map(q.double(), k.double(), kind)


class Reference:
    """A checkpoint folder as diffusers and transformers read it.

    Attributes:
        recorder: the kind of processor that records.
        layers: processors that record, by the names of the layers, in forward order.
    """

    recorder: type[Any] = RecordingProcessor

    def __init__(self, folder: Path, variant: str | None = None) -> None:
        self.parts = load_parts(folder, variant)
        self.encoders, self.vae = self.parts.encoders, self.parts.vae
        self.unet, self.scheduler = self.parts.unet, self.parts.scheduler
        self.tokenizer, self.text_encoder = self.encoders[0].tokenizer, self.encoders[0].model
        keys = self.processor_keys()
        self.layers: dict[str, Any] = {name: self.recorder() for name in keys}
        recorders = {keys[name]: processor for name, processor in self.layers.items()}
        self.unet.set_attn_processor({**self.unet.attn_processors, **recorders})

    def processor_keys(self) -> dict[str, str]:
        """The name of each layer → the key of its attention processor, in forward order."""
        return layer_names(self.unet.attn_processors)

    def layer_names(self) -> list[str]:
        """The cross-attention layers in forward order."""
        return list(self.layers)

    def tokens(self, text: str) -> tuple[Any, slice]:
        """Token ids ``[1, m]`` of the first encoder, and where among them the prompt's own are; the other encoders have
        them at the same places."""
        return self.encoders[0].tokens(text)

    def condition(self, text: str | None) -> Conditioning:
        """What the UNet reads of a text, or of no text."""
        return encode_texts(self.parts, [text])[0]

    def unconditional(self) -> Conditioning:
        """What the denoising term compares with."""
        return self.condition(None)

    def embed(self, text: str) -> Any:
        """The context ``[m, D]`` of a text."""
        return self.condition(text).context

    def latent(self, image: NDArray[np.uint8], resolution: int) -> Any:
        """``z = s (E(x) − c)`` ``[C, h, w]`` of an RGB image ``[H, W, 3]`` in 8 bits; E is the mean of the encoder's
        posterior."""
        if image.shape[:2] != (resolution, resolution):
            resized = Image.fromarray(image).resize((resolution, resolution), Image.Resampling.BICUBIC)
            image = np.asarray(resized)
        x = torch.tensor(image).permute(2, 0, 1)[None] / 127.5 - 1
        shift = self.vae.config.shift_factor or 0.0
        return (self.vae.encode(x).latent_dist.mean[0] - shift) * self.vae.config.scaling_factor

    def timesteps(self, steps: int) -> list[int]:
        """The scheduler's own timesteps, the noisiest first."""
        self.scheduler.set_timesteps(steps)
        timesteps: list[int] = self.scheduler.timesteps.tolist()
        return timesteps

    @property
    def is_flow(self) -> bool:
        """Whether the process is that of flow matching."""
        return not hasattr(self.scheduler, "alphas_cumprod")

    def clipped(self, t: float) -> float:
        """``leading`` spacing with an offset lists T itself, for which there is no ᾱ; of a flow, every time exists."""
        return t if self.is_flow else min(t, len(self.scheduler.alphas_cumprod) - 1)

    def noised(self, z: Any, noise: Any, t: float) -> Any:
        """Eq. 3; of a flow, ``z_σ = (1 − σ) z + σ ε``."""
        if self.is_flow:
            sigma = t / self.scheduler.config.num_train_timesteps
            return (1 - sigma) * z + sigma * noise
        return self.scheduler.add_noise(z[None], noise[None], torch.tensor([self.clipped(t)]))[0]

    def target(self, z: Any, noise: Any, t: float) -> Any:
        """What the network is trained to predict: ε, v = √ᾱ ε − √(1−ᾱ) z, or the velocity ε − z of a flow."""
        if self.is_flow:
            return noise - z
        if self.scheduler.config.prediction_type == "epsilon":
            return noise
        return self.scheduler.get_velocity(z[None], noise[None], torch.tensor([self.clipped(t)]))[0]

    def unet_arguments(self, z_t: Any, conditionings: Sequence[Conditioning]) -> dict[str, Any]:
        """Keyword arguments of the UNet for latents ``[B, C, h, w]`` and as many texts, in the latents' dtype."""
        return unet_arguments(self.parts, z_t, Conditioning.stack(conditionings))

    def predict(self, network: Any, z_t: Any, t: float, arguments: dict[str, Any]) -> Any:
        """The prediction ``[B, C, h, w]`` of the UNet, or of a copy of it."""
        return network(z_t, self.clipped(t), **arguments).sample

    def observe(self, z_t: Any, t: float, conditioning: Conditioning) -> Any:
        """One pass of the UNet."""
        arguments = self.unet_arguments(z_t[None], [conditioning])
        prediction = self.predict(self.unet, z_t[None], t, arguments)[0]
        return Observation(prediction, {name: (kept.q[0], kept.k[0]) for name, kept in self.layers.items()})
