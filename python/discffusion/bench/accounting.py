"""How many operations a request takes by each way of computing it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discffusion.bench import flops
from discffusion.errors import CheckpointError

__all__ = ["Accounting", "latent_multiple"]


_CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}


@dataclass(frozen=True)
class Accounting:
    """Operations of a model's parts at one resolution, and of requests made of them.

    Attributes:
        unet: one evaluation.
        vae: one image through the encoder.
        text: one text through each text encoder.
    """

    unet: flops.Network
    vae: flops.Network
    text: Sequence[flops.Network]

    @classmethod
    def of(cls, folder: Path, resolution: int | None = None) -> Accounting:
        """Of a model in the diffusers layout.

        Args:
            resolution: side of the images, pixels; default: the model's own.

        Raises:
            CheckpointError: a configuration file is missing or of another kind.
            InstallationError: diffusers or transformers is missing.
        """
        parts = {part: _read(folder / part / "config.json") for part in _CLASSES}
        texts = [_read(path) for path in sorted(folder.glob("text_encoder*/config.json"))]
        try:
            for part, name in _CLASSES.items():
                if parts[part]["_class_name"] != name:
                    raise ValueError(f"{part} is {parts[part]['_class_name']}")
            factor = 2 ** (len(parts["vae"]["block_out_channels"]) - 1)
            side = int(parts["unet"]["sample_size"]) if resolution is None else resolution // factor
            return cls(
                flops.unet(parts["unet"], side, int(texts[0]["max_position_embeddings"])),
                flops.vae_encoder(parts["vae"], side * factor),
                [flops.text_encoder(config) for config in texts],
            )
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the configuration files in {folder} are not those of Stable Diffusion 1.x, 2.x or XL: "
                f"{type(error).__name__} {error}"
            ) from None

    @property
    def one_text(self) -> int:
        """Operations of one text through all text encoders."""
        return sum(encoder.total for encoder in self.text)

    def released(self, images: int, texts: int, steps: int) -> int:
        """Of all pairs as the released code computes them.

        For each pair two texts; at every timestep the image and two evaluations, with the text and without.
        """
        return images * texts * (2 * self.one_text + steps * (self.vae.total + 2 * self.unet.total))

    def cached(self, images: int, texts: int, steps: int, method: str = "attention") -> int:
        """Of all pairs where images and texts are encoded once, and nothing else is shared or left out."""
        more = method != "attention"
        evaluations = images * (texts + more) * steps
        return images * self.vae.total + (texts + more) * self.one_text + evaluations * self.unet.total

    def needed(self, images: int, texts: int, steps: int, method: str = "attention") -> int:
        """Of all pairs, the least that gives the same numbers.

        Each image and text is encoded once, and a text's keys and values are made once. What comes before the first
        text is shared by all texts of an image at a timestep. A score of the maps alone needs nothing after the last
        softmax; a denoising error does, and one evaluation without text for every image and timestep.
        """
        net = self.unet
        more, tail, spared = (0, net.tail, net.last_values) if method == "attention" else (1, 0, 0)
        evaluation = net.total - net.prefix - net.text - tail
        return (
            images * self.vae.total
            + (texts + more) * (self.one_text + net.text - spared)
            + images * steps * (net.prefix + (texts + more) * evaluation)
        )


def latent_multiple(folder: Path) -> int:
    """What the side of a model's latents must be a multiple of: how many times smaller they are in the middle."""
    return 1 << (len(_read(folder / "unet" / "config.json")["block_out_channels"]) - 1)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content
