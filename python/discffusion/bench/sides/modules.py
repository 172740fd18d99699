"""A model as diffusers and transformers read it, and what the sides made of it have in common."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from discffusion._extras import need

if TYPE_CHECKING:
    from discffusion.bench.sides import Place
    from discffusion.bench.workloads import Terms

__all__ = ["FORMATS", "Modules", "inference"]

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def inference(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of which torch records nothing for gradients."""
    decorated: Callable[..., Any] = torch.inference_mode()(method)
    return decorated


class Modules:
    """UNet, VAE, text encoder, tokenizer and schedule of a folder, in evaluation mode.

    Attributes:
        formats: the memory format that UNet and VAE are in.
        timed: what was found out about formats and batches, for all sides that choose: seconds by part, format, size.
    """

    def __init__(self, place: Place) -> None:
        diffusers, transformers = need("diffusers", "bench"), need("transformers", "bench")
        self.device = torch.device(place.device)
        self.dtype = getattr(torch, place.dtype)
        load: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "variant": place.variant}
        folder = place.folder
        with _quiet(diffusers, transformers):
            self.tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
            self.text_encoder = transformers.CLIPTextModel.from_pretrained(
                folder / "text_encoder", dtype=self.dtype, **load
            )
            self.vae = diffusers.AutoencoderKL.from_pretrained(
                folder, subfolder="vae", torch_dtype=self.dtype, **load
            )
            self.unet = diffusers.UNet2DConditionModel.from_pretrained(
                folder, subfolder="unet", torch_dtype=self.dtype, **load
            )
            self.scheduler = diffusers.DDIMScheduler.from_config(
                diffusers.DDIMScheduler.load_config(folder, subfolder="scheduler")
            )
        self.vae.decoder = self.vae.post_quant_conv = None  # no side decodes anything
        for part in (self.text_encoder, self.vae, self.unet):
            part.eval().requires_grad_(False).to(self.device)
        self.processors = dict(self.unet.attn_processors)  # fused attention everywhere
        self.formats = {"unet": "contiguous", "vae": "contiguous"}
        self.timed: dict[tuple[str, str, int], float] = {}

    @property
    def sites(self) -> list[str]:
        """The names of the processors of cross-attention layers."""
        return [name for name in self.processors if ".attn2." in name]

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
        return (values.permute(2, 0, 1).float() / 127.5 - 1).to(self.dtype)

    def encode_images(self, pixels: Any) -> Any:
        """Latents ``z`` ``[n, C, h, w]``, float32, of pictures ``[n, 3, H, W]``."""
        pixels = pixels.contiguous(memory_format=FORMATS[self.formats["vae"]])
        return self.vae.encode(pixels).latent_dist.mean.float() * self.vae.config.scaling_factor

    def encode_texts(self, texts: Sequence[str]) -> Any:
        """Text vectors ``[n, m, D]``."""
        length = self.text_encoder.config.max_position_embeddings
        ids = self.tokenizer(
            list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return self.text_encoder(ids["input_ids"].to(self.device)).last_hidden_state

    def alphas(self, terms: Terms) -> Any:
        """``ᾱ`` of the timesteps, ``[steps, 1, 1, 1]``."""
        found = self.scheduler.alphas_cumprod[self.times(terms).cpu()].to(self.device)
        return found.view(-1, 1, 1, 1)

    def times(self, terms: Terms) -> Any:
        """The timesteps, int64 ``[steps]``; one behind the last stands for the last."""
        last = len(self.scheduler.alphas_cumprod) - 1
        return torch.tensor(terms.timesteps, device=self.device).clamp_max(last)

    def target(self, clean: Any, noise: Any, alphas: Any) -> Any:
        """What the UNet should predict: the noise, or the velocity."""
        if self.scheduler.config.prediction_type == "epsilon":
            return noise
        return alphas.sqrt() * noise - (1 - alphas).sqrt() * clean

    def predict(self, noised: Any, times: Any, texts: Any) -> Any:
        """The UNet's prediction, float32."""
        noised = noised.to(self.dtype).contiguous(memory_format=FORMATS[self.formats["unet"]])
        return self.unet(noised, times, texts).sample.float()


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
