"""Writing files and folders so that a crash leaves the old one or the new one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a neighbour of ``path``, then put it in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    write(part)
    part.replace(path)


def replace_folder(path: Path, write: Callable[[Path], Any]) -> None:
    """Like :func:`write_atomically` for a folder, which is emptied first."""
    part, old = path.with_name(path.name + ".part"), path.with_name(path.name + ".old")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    write(part)
    if path.exists():
        path.rename(old)
    part.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """A training state that a resumed run continues from."""
    write_atomically(path, lambda part: torch.save(state, part))


def load_state(path: Path) -> dict[str, Any] | None:
    """The state saved last, or None. Read by torch's weights-only reader."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
