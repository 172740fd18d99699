"""The small CLIP of the shapes world, untrained, and how it is written in the layout of published CLIP models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from tools.pocket.architecture import IMAGE_SIZE, MAX_TOKENS
from tools.pocket.files import replace_folder

PATCH = 8
WIDTH = 96  # of the text tower and of the embeddings
MEAN = STD = 0.5  # of every colour: pixels go in as values from -1 to 1


def build_clip(vocab_size: int, bos: int, eos: int) -> CLIPModel:
    """1.2 M parameters: a vision transformer of 16 patches and 4 layers, a text transformer of 3 layers."""
    text = {
        "vocab_size": vocab_size,
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_TOKENS,
        "hidden_act": "quick_gelu",
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": eos,
        "projection_dim": WIDTH,
    }
    vision = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH,
        "hidden_act": "quick_gelu",
        "projection_dim": WIDTH,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))


def export_clip(folder: Path, model: CLIPModel, tokenizer: Path, readme: str | None = None) -> None:
    """Replace ``folder`` with the model, in half precision; an old README.md stays where no new one is given."""
    if readme is None and (folder / "README.md").exists():
        readme = (folder / "README.md").read_text(encoding="utf-8")

    def write(target: Path) -> None:
        shutil.copytree(tokenizer, target, dirs_exist_ok=True)
        _write_json(target / "preprocessor_config.json", _preprocessor())
        model.config.save_pretrained(target)
        path = target / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        _write_json(path, {**config, "architectures": ["CLIPModel"], "torch_dtype": "float16"})
        weights = {
            key: value.detach().to(torch.float16).contiguous()
            for key, value in model.state_dict().items()
            if value.is_floating_point()
        }
        save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
        (target / "model.safetensors").chmod(0o644)
        if readme is not None:
            (target / "README.md").write_text(readme, encoding="utf-8")

    replace_folder(folder, write)


def _preprocessor() -> dict[str, object]:
    return {
        "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [MEAN] * 3,
        "image_processor_type": "CLIPImageProcessor",
        "image_std": [STD] * 3,
        "resample": 3,  # bicubic
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": IMAGE_SIZE},
    }


def _write_json(path: Path, values: dict[str, object]) -> None:
    path.write_text(json.dumps(dict(sorted(values.items())), indent=2) + "\n", encoding="utf-8")
