"""A tiny checkpoint as a pipeline of diffusers, and the core's pictures of the same noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, LatentConsistencyModelPipeline, LCMScheduler, StableDiffusionPipeline

from discffusion import Scorer
from discffusion.bench.reference.model import Reference

PROMPT, NEGATIVE = "a red circle left of a blue square, at night", "two small boats on a wide river"
# Of 255: how far the mean of a picture's pixels may be off. Both are rounded to whole numbers.
TOLERANCE = 0.5


def with_scheduler(folder: Path, to: Path, **fields: Any) -> Path:
    """The same checkpoint with other fields in its scheduler's configuration."""
    to.mkdir(parents=True)
    for part in folder.iterdir():
        if part.name != "scheduler":
            (to / part.name).symlink_to(part)
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    (to / "scheduler").mkdir()
    (to / "scheduler" / "scheduler_config.json").write_text(json.dumps({**config, **fields}))
    return to


def pipeline(folder: Path) -> Any:
    """The pipeline that the folder is for, with DDIM where it is one of Stable Diffusion."""
    reference = Reference(folder)
    parts = {
        "vae": reference.vae,
        "text_encoder": reference.text_encoder,
        "tokenizer": reference.tokenizer,
        "unet": reference.unet,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    if reference.unet.config.time_cond_proj_dim is not None:
        scheduler = LCMScheduler.from_pretrained(folder, subfolder="scheduler")
        made: Any = LatentConsistencyModelPipeline(scheduler=scheduler, **parts)
    else:
        # The pipeline changes clip_sample and steps_offset of what it is made with.
        scheduler = DDIMScheduler.from_config(DDIMScheduler.load_config(folder, subfolder="scheduler"))
        made = StableDiffusionPipeline(scheduler=scheduler, **parts)
    made.set_progress_bar_config(disable=True)
    return made


def latents(
    count: int = 1, height: int = 16, width: int = 16, seed: int = 3, channels: int = 4
) -> torch.Tensor:
    """Initial noise [count, channels, h, w]."""
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(seed))


def step_noise(steps: int, shape: torch.Size, seed: int = 7) -> np.ndarray:
    """What a pipeline draws step by step from a generator of this seed, as [images, steps, C, h, w]."""
    draw = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(shape, generator=draw) for _ in range(steps)]
    return torch.stack(drawn, dim=1).numpy()


def theirs(pipe: Any, initial: torch.Tensor, **options: Any) -> np.ndarray:
    """diffusers' pictures, uint8 [n, H, W, 3]."""
    options = {"prompt": PROMPT, "num_inference_steps": 6, "guidance_scale": 3.0, **options}
    height, width = (8 * side for side in initial.shape[2:])
    made = pipe(latents=initial, height=height, width=width, **options).images
    return np.stack([np.asarray(image) for image in made])


def ours(scorer: Scorer, initial: torch.Tensor, **options: Any) -> np.ndarray:
    """The same of the core."""
    options = {"prompt": PROMPT, "steps": 6, "guidance_scale": 3.0, "num_images": len(initial), **options}
    made = scorer.generate(options.pop("prompt"), latents=initial, **options)
    return np.stack([np.asarray(image) for image in made])


def check(a: np.ndarray, b: np.ndarray) -> None:
    """The pictures are the same, and show something."""
    assert a.shape == b.shape
    assert b.std() > 10, "a plain picture says nothing"
    assert ((b > 0) & (b < 255)).mean() > 0.5, "a picture of black and white alone says little"
    assert np.abs(a.astype(float) - b.astype(float)).mean() <= TOLERANCE
