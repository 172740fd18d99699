"""Having all processes of a run stand where the first one stands, which alone reads and writes the run's folder."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discffusion import _native
from discffusion._processes import SingleProcess

if TYPE_CHECKING:
    from discffusion import _core

__all__ = ["follow"]


def follow(
    group: SingleProcess,
    core: _core.Trainer,
    scorer: _core.Scorer,
    state: dict[str, Any],
    best: _core.Deltas | None,
) -> tuple[dict[str, Any], _core.Deltas | None]:
    """Takes over the state of the first process: what the core keeps, what is told beside, and the best deltas.

    Processes need no folder in common: files are sent as bytes.
    """
    state = json.loads(group.broadcast(json.dumps({**state, "best": best is not None}).encode()))
    with tempfile.TemporaryDirectory(prefix="discffusion-") as folder:
        path = Path(folder) / "state.safetensors"
        if group.rank == 0:
            core.save(str(path), "")
        if _received(group, path):
            core.load(str(path))
        if state["best"]:
            path = Path(folder) / "best.safetensors"
            if best is not None:
                best.save(str(path), {})
            if _received(group, path):
                best = _native.core().Deltas.load(str(path), scorer, True)
    return state, best


def _received(group: SingleProcess, path: Path) -> bool:
    """Sends the file at `path` from the first process; whether this is another one, which then has it there too."""
    data = group.broadcast(path.read_bytes() if group.rank == 0 else None)
    if group.rank > 0:
        path.write_bytes(data)
    return group.rank > 0
