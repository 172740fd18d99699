"""Writing a trained model in the layout in which Stable Diffusion is published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import nn

from tools.pocket.architecture import build_scheduler
from tools.pocket.diffusion import Denoiser
from tools.pocket.files import replace_folder

_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def export(
    folder: Path, model: Denoiser, vae: AutoencoderKL, tokenizer: Path, readme: str | None = None
) -> None:
    """Replace ``folder`` with the model, in half precision; an old README.md stays where no new one is given."""
    if readme is None and (folder / "README.md").exists():
        readme = (folder / "README.md").read_text(encoding="utf-8")

    def write(target: Path) -> None:
        (target / "model_index.json").write_text(json.dumps(_INDEX, indent=2) + "\n")
        build_scheduler().save_pretrained(target / "scheduler")
        shutil.copytree(tokenizer, target / "tokenizer")
        for name, part in (("unet", model.unet), ("vae", vae)):
            part.save_config(target / name)
            _save_weights(part, target / name / "diffusion_pytorch_model.safetensors")
        text = target / "text_encoder"
        model.text.config.save_pretrained(text)
        _name_architecture(text / "config.json")
        _save_weights(model.text, text / "model.safetensors", prefix="text_model.")
        if readme is not None:
            (target / "README.md").write_text(readme, encoding="utf-8")

    replace_folder(folder, write)


def _save_weights(part: nn.Module, path: Path, prefix: str = "") -> None:
    """Half-precision weights; ``prefix`` is given to keys that lack it."""
    weights = {
        key if key.startswith(prefix) else prefix + key: value.detach().to(torch.float16).contiguous()
        for key, value in part.state_dict().items()
        if value.is_floating_point()
    }
    save_file(weights, path, metadata={"format": "pt"})
    path.chmod(0o644)


def _name_architecture(config: Path) -> None:
    """The keys that published text encoders have and a configuration saved on its own lacks."""
    values = json.loads(config.read_text())
    values.update(architectures=["CLIPTextModel"], torch_dtype="float16")
    config.write_text(json.dumps(dict(sorted(values.items())), indent=2) + "\n")
