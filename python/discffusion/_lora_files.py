"""Files that hold deltas: which one is meant, and reading old ``.bin`` files of LoRA weights without running code."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import DeltasError, InstallationError

__all__ = ["find", "is_pickled", "read_pickled"]

# What a folder of deltas is known by: ours, diffusers' and peft's, safe formats first.
_NAMES = (
    "deltas.safetensors",
    "pytorch_lora_weights.safetensors",
    "adapter_model.safetensors",
    "pytorch_lora_weights.bin",
    "adapter_model.bin",
)


def find(path: str | os.PathLike[str]) -> Path:
    """The file that `path` means: itself, or the one known by its name in a folder."""
    if not isinstance(path, str | os.PathLike):
        raise DeltasError(f"deltas are loaded from a path, not {type(path).__name__}")
    file = Path(os.fsdecode(path)).expanduser()
    try:
        if file.is_dir():
            candidates = [file / name for name in _NAMES if (file / name).is_file()]
            if not candidates:
                raise DeltasError(f"the folder {str(file)!r} holds no deltas: none of {', '.join(_NAMES)}")
            return candidates[0]
        if not file.exists():
            raise DeltasError(f"there is no file {str(file)!r} (looked in {Path.cwd()})")
        if not file.is_file():
            raise DeltasError(f"{str(file)!r} is not a regular file; expected a file of deltas")
    except (OSError, ValueError) as error:
        if isinstance(error, DeltasError):
            raise
        raise DeltasError(f"the file {str(path)!r} cannot be read: {error}") from None
    return file


def is_pickled(file: Path) -> bool:
    """Whether it is what ``torch.save`` writes, now (a zip archive) or in old days (a pickle), whatever its name."""
    try:
        with file.open("rb") as opened:
            start = opened.read(9)
    except OSError as error:
        raise DeltasError(f"the file {str(file)!r} cannot be read: {error}") from None
    return (
        start.startswith((b"PK\x03\x04", b"\x80")) and start[8:] != b"{"
    )  # which begins a safetensors header


def read_pickled(file: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """Tensors of a ``.bin`` file by name, by torch's weights-only reader, and the text of peft's file beside it."""
    try:
        import torch
    except ImportError as error:
        raise InstallationError(f"{file.name} is read by torch, which does not load: {error}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's doubts about a file it then refuses
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a hostile pickle brings torch to raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DeltasError(
            f"{file}: is not a file of tensors that torch's weights-only reader accepts ({reason})"
        ) from None
    if not isinstance(state, dict) or not state:
        raise DeltasError(f"{file}: holds {type(state).__name__}; expected named tensors")
    arrays = {str(name): _array(file, name, tensor) for name, tensor in state.items()}
    try:
        return arrays, {"adapter_config": (file.parent / "adapter_config.json").read_text(encoding="utf-8")}
    except (OSError, ValueError):
        return arrays, {}


def _array(file: Path, name: Any, tensor: Any) -> NDArray[np.float32]:
    if not hasattr(tensor, "detach"):
        raise DeltasError(f"{file}: holds {name!r}, which is {type(tensor).__name__}; expected a tensor")
    try:
        array: NDArray[np.float32] = tensor.detach().float().contiguous().numpy()
    except (RuntimeError, TypeError) as error:
        raise DeltasError(f"{file}: {name!r} cannot be read as numbers ({error})") from None
    return array
