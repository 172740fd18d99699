"""A model as diffusers and transformers read it, and what the implementations made of it have in common."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from discffusion._extras import need
from discffusion.bench.reference.conditioning import Conditioning, encode_texts, unet_arguments
from discffusion.bench.reference.layers import layer_names
from discffusion.bench.reference.loading import load_parts

if TYPE_CHECKING:
    from discffusion.bench.implementations import ModelSpec
    from discffusion.bench.settings import BenchSettings

__all__ = ["FORMATS", "DiffusersModel", "inference"]

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def inference(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of which torch records nothing for gradients."""
    decorated: Callable[..., Any] = torch.inference_mode()(method)
    return decorated


class DiffusersModel:
    """UNet, VAE, text encoders, tokenizers and schedule of a folder, in evaluation mode.

    Attributes:
        formats: the memory format that UNet and VAE are in.
        timed: what formats and batches take, for all implementations that choose: seconds by part, format, size.
    """

    def __init__(self, spec: ModelSpec) -> None:
        diffusers, transformers = need("diffusers", "bench"), need("transformers", "bench")
        self.device = torch.device(spec.device)
        self.dtype = getattr(torch, spec.dtype)
        with _quiet(diffusers, transformers):
            self.parts = load_parts(spec.folder, spec.variant, self.dtype)
        self.unet, self.vae, self.scheduler = self.parts.unet, self.parts.vae, self.parts.scheduler
        self.vae.decoder = self.vae.post_quant_conv = None  # no implementation decodes anything
        for model in (*(encoder.model for encoder in self.parts.encoders), self.vae, self.unet):
            model.to(self.device)
        if len(self.parts.encoders) > 1 and self.dtype == torch.float16 and self.vae.config.force_upcast:
            self.vae.float()  # the VAE of XL overflows
        self.processors = dict(self.unet.attn_processors)  # fused attention everywhere
        self.formats = {"unet": "contiguous", "vae": "contiguous"}
        self.timed: dict[tuple[str, str, int], float] = {}

    @property
    def layers(self) -> list[str]:
        """The keys of the processors of cross-attention layers, in forward order."""
        return list(layer_names(self.processors).values())

    def use(self, processors: dict[str, Any], unet: str, vae: str) -> None:
        """Puts these processors in, and UNet and VAE in these memory formats."""
        self.unet.set_attn_processor({**self.processors, **processors})
        for name, wanted in (("unet", unet), ("vae", vae)):
            if self.formats[name] != wanted:
                getattr(self, name).to(memory_format=FORMATS[wanted])
                self.formats[name] = wanted

    def pixels(self, image: bytes, resolution: int) -> Any:
        """A picture as the VAE takes it, ``[3, H, W]`` in [−1, 1]."""
        picture = Image.open(io.BytesIO(image)).convert("RGB")
        if picture.size != (resolution, resolution):
            picture = picture.resize((resolution, resolution), Image.Resampling.BICUBIC)
        values = torch.from_numpy(np.array(picture)).to(self.device)
        return (values.permute(2, 0, 1).float() / 127.5 - 1).to(self.vae.dtype)

    def encode_images(self, pixels: Any) -> Any:
        """Latents ``z`` ``[n, C, h, w]``, float32, of pictures ``[n, 3, H, W]``."""
        pixels = pixels.contiguous(memory_format=FORMATS[self.formats["vae"]])
        return self.vae.encode(pixels).latent_dist.mean.float() * self.vae.config.scaling_factor

    def encode_texts(self, texts: Sequence[str | None]) -> Conditioning:
        """What the UNet reads of each text; None is no text."""
        return encode_texts(self.parts, texts)

    def alphas(self, settings: BenchSettings) -> Any:
        """``ᾱ`` of the timesteps, ``[steps, 1, 1, 1]``."""
        alphas = self.scheduler.alphas_cumprod[self.times(settings).cpu()].to(self.device)
        return alphas.view(-1, 1, 1, 1)

    def times(self, settings: BenchSettings) -> Any:
        """The timesteps, int64 ``[steps]``; one behind the last stands for the last."""
        last = len(self.scheduler.alphas_cumprod) - 1
        return torch.tensor(settings.timesteps, device=self.device).clamp_max(last)

    def target(self, clean: Any, noise: Any, alphas: Any) -> Any:
        """What the UNet should predict: the noise, or the velocity."""
        if self.scheduler.config.prediction_type == "epsilon":
            return noise
        return alphas.sqrt() * noise - (1 - alphas).sqrt() * clean

    def predict(self, noised: Any, times: Any, conditioning: Conditioning) -> Any:
        """The UNet's prediction, float32."""
        noised = noised.to(self.dtype).contiguous(memory_format=FORMATS[self.formats["unet"]])
        return self.unet(noised, times, **unet_arguments(self.parts, noised, conditioning)).sample.float()


@contextmanager
def _quiet(*libraries: Any) -> Iterator[None]:
    """Without progress bars and remarks on what is loaded; errors are raised as ever."""
    before = [library.logging.get_verbosity() for library in _logging(libraries)]
    for library in _logging(libraries):
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in zip(_logging(libraries), before, strict=True):
            library.logging.set_verbosity(level)
            library.logging.enable_progress_bar()


def _logging(libraries: Sequence[Any]) -> list[Any]:
    return [library.utils for library in libraries]
