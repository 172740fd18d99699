"""This package's evaluations of the UNet, told apart from the encoding of image and text."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.bench.clock import Times
from discffusion.bench.implementations.ours import Ours
from discffusion.bench.settings import BenchSettings
from discffusion.bench.workloads import Workload, draw

__all__ = ["evaluation_settings", "less_encoders", "own_parts", "picture_array"]

TEXT = "a red circle left of a blue square"
# Evaluations of the UNet in one request: on the CPU, as many as make up one of 64×64 latents, but two at the least, so
# that the time of the encoders is the smaller part. A GPU is full with many more.
_PIXELS, _LEAST, _MOST = 4096, 2, 64


def evaluation_settings(ours: Ours, settings: BenchSettings) -> BenchSettings:
    """BenchSettings with enough timesteps that a request's time is mostly the UNet's; no map is asked for."""
    pixels = settings.noise.shape[2] * settings.noise.shape[3]
    room = _MOST * _PIXELS if ours.scorer.device.startswith("cuda") else _PIXELS
    rows = max(_LEAST, min(_MOST, room // pixels))
    noise = np.random.default_rng(1).standard_normal((rows, *settings.noise.shape[1:]), dtype=np.float32)
    train = int(ours.scorer.info()["num_train_timesteps"])
    timesteps = tuple(int(t) for t in np.linspace(0.9 * train, 0.1 * train, rows))
    return BenchSettings(timesteps, noise, settings.resolution, "denoising", settings.map)


def own_parts(
    ours: Ours, settings: BenchSettings, forms: Mapping[str, Mapping[str, Any]]
) -> dict[str, Callable[[int], Any]]:
    """Calls ``ours: image``, ``ours: text`` and, for each of `forms`, ``ours: NAME``: a request of one image and text.

    Args:
        forms: changes of the configuration by name. None is compared with the empty text: every request has one
            evaluation for each timestep.
    """
    picture = picture_array(draw(Workload(1, 1), settings.resolution).images[0], settings.resolution)

    def request(changes: Mapping[str, Any]) -> Callable[[int], Any]:
        scorer = ours.scorer.with_config(
            "default", **{**settings.config(), "unconditional": False, **changes}
        )
        return lambda _: scorer.score_pairs([picture], [TEXT], [(0, 0)], noise=settings.noise, progress=False)

    encoder = ours.configured(settings)
    return {
        "ours: image": lambda _: encoder.encode_images([picture]),
        "ours: text": lambda _: encoder._model.encode_texts([TEXT], encoder.config),
        **{f"ours: {name}": request(changes) for name, changes in forms.items()},
    }


def less_encoders(times: Mapping[str, Times], name: str) -> Times:
    """Of a request, what is left of each repeat without the encoding of its image and its text."""
    parts = (times[f"ours: {part}"].seconds for part in (name, "image", "text"))
    return Times([whole - image - text for whole, image, text in zip(*parts, strict=True)])


def picture_array(image: bytes, resolution: int) -> NDArray[np.uint8]:
    """An encoded picture as pixels of the model's size: uint8 ``[H, W, 3]``."""
    from PIL import Image

    picture = Image.open(io.BytesIO(image)).convert("RGB")
    return np.array(picture.resize((resolution, resolution), Image.Resampling.BICUBIC))
