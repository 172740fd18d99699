"""The parts of a checkpoint folder as diffusers and transformers read them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from discffusion._extras import need

__all__ = ["Parts", "TextEncoder", "load_parts"]


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder of transformers and its tokenizer."""

    tokenizer: Any
    model: Any

    def tokens(self, text: str) -> tuple[Any, slice]:
        """Token ids int64 ``[1, m]``, padded and truncated, and where among them the prompt's own are."""
        ids = self.ids([text])
        return ids, slice(1, ids[0].tolist().index(self.tokenizer.eos_token_id))

    def encode(self, texts: list[str], **options: Any) -> Any:
        """The model's output for the texts."""
        return self.model(self.ids(texts).to(self.model.device), **options)

    def ids(self, texts: list[str]) -> Any:
        """Token ids int64 ``[n, m]``, padded and truncated to the encoder's length."""
        length = self.model.config.max_position_embeddings
        options = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt"}
        return self.tokenizer(texts, **options)["input_ids"]


@dataclass(frozen=True)
class Parts:
    """The models of a pipeline, in evaluation mode and without gradients.

    Attributes:
        index: ``model_index.json``.
        encoders: the text encoders, in the pipeline's order.
        unet: the denoising network; in Stable Diffusion 3 a transformer.
        scheduler: a ``DDIMScheduler`` with the checkpoint's betas, spacing and prediction type, or a
            ``FlowMatchEulerDiscreteScheduler``.
    """

    index: dict[str, Any]
    encoders: tuple[TextEncoder, ...]
    vae: Any
    unet: Any
    scheduler: Any


def load_parts(folder: Path, variant: str | None = None, dtype: Any = torch.float32) -> Parts:
    """Reads the folder, on the CPU; nothing is fetched.

    Raises:
        InstallationError: diffusers or transformers is missing.
        ValueError: transformers left weights of a text encoder at random.
    """
    diffusers = need("diffusers", "bench")
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    load = {"variant": variant, "local_files_only": True, "use_safetensors": True}
    encoders = tuple(
        _text_encoder(folder, name, index[name][1], dtype, load)
        for name in ("text_encoder", "text_encoder_2")
        if name in index
    )
    vae = diffusers.AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=dtype, **load)
    joint = "transformer" in index
    network = diffusers.SD3Transformer2DModel if joint else diffusers.UNet2DConditionModel
    denoiser = "transformer" if joint else "unet"
    unet = network.from_pretrained(folder, subfolder=denoiser, torch_dtype=dtype, **load)
    config = diffusers.DDIMScheduler.load_config(folder, subfolder="scheduler")
    flow = diffusers.FlowMatchEulerDiscreteScheduler
    sampler = flow if config.get("_class_name") == flow.__name__ else diffusers.DDIMScheduler
    scheduler = sampler.from_config(config)
    for model in (*(encoder.model for encoder in encoders), vae, unet):
        model.eval().requires_grad_(False)
    return Parts(index, encoders, vae, unet, scheduler)


def _text_encoder(folder: Path, name: str, kind: str, dtype: Any, load: dict[str, Any]) -> TextEncoder:
    transformers = need("transformers", "bench")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / name.replace("text_encoder", "tokenizer"))
    model, report = getattr(transformers, kind).from_pretrained(
        folder / name, dtype=dtype, output_loading_info=True, **load
    )
    if report["missing_keys"] or report["mismatched_keys"]:
        raise ValueError(f"transformers did not read {name}: {report}")
    return TextEncoder(tokenizer, model)
