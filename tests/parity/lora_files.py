"""LoRA weights as files in every published layout, and how diffusers and peft load them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import peft
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor

from discffusion.bench.reference.model import Reference

# Module path → A [r, in] and B [out, r].
Pairs = dict[str, tuple[Tensor, Tensor]]
Tensors = dict[str, Tensor]
PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
# Of queries, keys, values and outputs: a loader that takes one rank for all fails.
RANKS = {"to_q": 2, "to_k": 4, "to_v": 4, "to_out.0": 3}
# The weights have entries of about 1/√in; deltas of half that size change every map.
SIZE = 0.5


def modules(
    network: torch.nn.Module, projections: Collection[str] = PROJECTIONS, attention: str = ".attn"
) -> dict[str, tuple[int, int]]:
    """The attention projections by path, and their weights' shapes (out, in)."""
    return {
        name: (layer.out_features, layer.in_features)
        for name, layer in network.named_modules()
        if isinstance(layer, torch.nn.Linear) and name.endswith(tuple(projections)) and attention in name
    }


def projection(module: str, projections: Collection[str] = PROJECTIONS) -> str:
    """`….attn2.to_out.0` → `to_out.0`."""
    return next(name for name in projections if module.endswith(name))


def random_pairs(
    network: torch.nn.Module, seed: int = 0, ranks: Mapping[str, int] = RANKS, attention: str = ".attn"
) -> Pairs:
    """A pair for every attention projection that has a rank."""
    draw = torch.Generator().manual_seed(seed)

    def pair(module: str, outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
        rank = ranks[projection(module, ranks)]
        down = torch.randn(rank, inputs, generator=draw) / inputs**0.5
        return down, torch.randn(outputs, rank, generator=draw) * SIZE / rank**0.5

    return {module: pair(module, *shape) for module, shape in modules(network, ranks, attention).items()}


def fuse(pipe: Any, fused: torch.nn.Module, network: torch.nn.Module) -> None:
    """Gives `network` the weights of `fused`, the network of a pipeline, with the LoRA that the pipeline has loaded."""
    pipe.fuse_lora()
    weights = {k.replace(".base_layer", ""): v for k, v in fused.state_dict().items() if ".lora_" not in k}
    network.load_state_dict(weights)


def scaled(pairs: Pairs, alphas: Mapping[str, float]) -> Pairs:
    """Pairs with `alpha / r` multiplied in; modules without an alpha are as they were."""
    return {
        module: (down, up * (alphas.get(module, len(down)) / len(down)))
        for module, (down, up) in pairs.items()
    }


def _old(module: str) -> str:
    head, tail = module.replace("to_out.0", "to_out").rsplit(".", 1)
    return f"{head}.processor.{tail}_lora"


def _kohya(module: str) -> str:
    return "lora_unet_" + module.replace(".", "_")


def _keyed(pairs: Pairs, down_key: Callable[[str], str], up_key: Callable[[str], str]) -> Tensors:
    return {
        key(m): half for m, pair in pairs.items() for key, half in zip((down_key, up_key), pair, strict=True)
    }


def authors(pairs: Pairs) -> Tensors:
    """The layout of the paper's authors, which is that of diffusers up to 0.16."""
    return _keyed(pairs, lambda m: f"{_old(m)}.down.weight", lambda m: f"{_old(m)}.up.weight")


def old_diffusers(pairs: Pairs) -> Tensors:
    """The same with the model's name before it."""
    return {f"unet.{key}": tensor for key, tensor in authors(pairs).items()}


def middle_diffusers(pairs: Pairs) -> Tensors:
    """What diffusers' training scripts wrote before peft."""
    return _keyed(pairs, lambda m: f"unet.{m}.lora.down.weight", lambda m: f"unet.{m}.lora.up.weight")


def diffusers(pairs: Pairs) -> Tensors:
    """What diffusers writes today."""
    return _keyed(pairs, lambda m: f"unet.{m}.lora_A.weight", lambda m: f"unet.{m}.lora_B.weight")


def named_adapter(pairs: Pairs) -> Tensors:
    """The state dict of a model with an adapter, as it is in memory."""
    return _keyed(pairs, lambda m: f"{m}.lora_A.default_0.weight", lambda m: f"{m}.lora_B.default_0.weight")


def kohya(pairs: Pairs, alphas: Mapping[str, float] = MappingProxyType({})) -> Tensors:
    """The layout of kohya's trainer and the web interfaces."""
    tensors = _keyed(
        pairs, lambda m: f"{_kohya(m)}.lora_down.weight", lambda m: f"{_kohya(m)}.lora_up.weight"
    )
    return tensors | {f"{_kohya(module)}.alpha": torch.tensor(alpha) for module, alpha in alphas.items()}


def conv_shaped(tensors: Tensors) -> Tensors:
    """Halves as 1×1 convolutions."""
    return {key: half[..., None, None] if half.ndim == 2 else half for key, half in tensors.items()}


Loader = Callable[[Reference, Path], None]


def by_adapter(prefix: str | None = "unet") -> Loader:
    """`unet.load_lora_adapter`, which reads the metadata only if told that the file is a safetensors file."""
    return lambda reference, path: reference.unet.load_lora_adapter(path, prefix=prefix, use_safetensors=True)


def without_metadata(reference: Reference, path: Path) -> None:
    """The same as most people call it: ranks are taken from the tensors."""
    reference.unet.load_lora_adapter(path, prefix="unet")


def by_pipeline(reference: Reference, path: Path) -> None:
    """`pipeline.load_lora_weights`."""
    parts = (reference.vae, reference.text_encoder, reference.tokenizer, reference.unet, reference.scheduler)
    pipeline = StableDiffusionPipeline(*parts, None, None, requires_safety_checker=False)
    pipeline.load_lora_weights(path)


def by_peft(reference: Reference, folder: Path) -> None:
    """peft's own loader, which changes the UNet in place."""
    peft.PeftModel.from_pretrained(reference.unet, str(folder))


@dataclass(frozen=True)
class Layout:
    """How pairs are named in a file, and who else reads it."""

    tensors: Callable[[Pairs], Tensors]
    load: Loader


LAYOUTS = {
    "authors": Layout(authors, by_adapter(None)),
    "old_diffusers": Layout(old_diffusers, by_pipeline),
    "middle_diffusers": Layout(middle_diffusers, by_pipeline),
    "diffusers": Layout(diffusers, by_pipeline),
    "kohya": Layout(kohya, by_pipeline),
}


def write(path: Path, tensors: Tensors, config: Mapping[str, object] | None = None) -> Path:
    """A safetensors file; `config` is what diffusers keeps in its metadata."""
    metadata = {"format": "pt"}
    if config is not None:
        metadata["lora_adapter_metadata"] = json.dumps(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return path
