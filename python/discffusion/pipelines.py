"""Which diffusers pipelines can be scored with, by what ``model_index.json`` and the UNet's configuration say.

A repository's name says nothing: what counts is the class of the pipeline and the classes of its parts. Parts that a
score does not use (a scheduler, a safety checker, a ControlNet) may be of any class.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from discffusion.errors import CheckpointError
from discffusion.families import families, family_of

__all__ = ["check_pipeline", "supported"]

#: parts that take part in what a model of another kind predicts
_FOREIGN = re.compile(
    r"transformer(_\d+)?|text_encoder_\d+|prior(_\w+)?|decoder(_\w+)?|movq|vqgan|vqvae|motion_adapter|image_normalizer"
)


def supported() -> str:
    """A sentence that says which models are."""
    return f"Supported are {', and '.join(family.about for family in families())}"


def check_pipeline(folder: Path, name: str) -> None:
    """Refuses a folder, or the configurations of one, that holds a model of another kind.

    A folder without ``model_index.json`` passes, and so does one that is damaged: whoever reads it says so.

    Args:
        folder: in the diffusers layout; weights need not be there yet.
        name: of the model, for the message.

    Raises:
        CheckpointError: naming the pipeline's class, what is not supported, and what is.
    """
    index = _json(folder / "model_index.json")
    if index is None:
        return
    kind = index.get("_class_name")
    reason = _reason(index, kind) or _channels(folder, family_of(index).family.denoiser)
    if reason:
        called = f"a {kind}" if isinstance(kind, str) and kind else "a pipeline of an unnamed class"
        raise CheckpointError(f"{name!r} is {called}, which is not supported: {reason}. {supported()}")


def _reason(index: dict[str, Any], kind: Any) -> str | None:
    parts, (family, by_class, refusal) = _classes(index), family_of(index)
    foreign = sorted(part for part in parts if _FOREIGN.fullmatch(part) and part not in family.parts)
    if foreign:
        return f"it has {' and '.join(f'{part} ({parts[part]})' for part in foreign)}"
    if parts.keys().isdisjoint(family.parts):  # the index says its class alone
        return None if by_class or not kind else "it is of another family"
    if refusal:
        return refusal
    for part, classes in family.parts.items():
        if part not in parts and part in family.optional:
            continue
        if part not in parts:
            return f"it has no {part} ({classes[0]})"
        if parts[part] not in classes:
            return f"its {part} is {parts[part]}, not {classes[0]}"
    return None


def _channels(folder: Path, denoiser: str) -> str | None:
    """What speaks against the network: one that takes more than a latent (a mask, a depth map, another picture)."""
    network, vae = _json(folder / denoiser / "config.json"), _json(folder / "vae" / "config.json")
    if network is None or vae is None:
        return None
    taken, given = network.get("in_channels"), vae.get("latent_channels", 4)
    if isinstance(taken, int) and isinstance(given, int) and taken != given:
        named = "UNet" if denoiser == "unet" else denoiser
        return (
            f"its {named} takes {taken} channels (in_channels) and its VAE gives {given} (latent_channels), as in "
            "models for inpainting, depth, upscaling or editing"
        )
    return None


def _classes(index: dict[str, Any]) -> dict[str, str]:
    """Part by part its class; ``[library, class]`` in the file, nulls for a part that is left out."""
    return {
        part: value[1]
        for part, value in index.items()
        if isinstance(value, list) and len(value) == 2 and isinstance(value[1], str)
    }


def _json(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
