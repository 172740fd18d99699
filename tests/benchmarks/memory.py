"""Peak memory of the steps of either side, as the kernel counts it, each in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tests.benchmarks.sides import CoreLoop, torch_loop

from discffusion.data import MatchItem

SIDES = ("core", "torch")


def compare(args: argparse.Namespace, argv: list[str]) -> dict[str, Any]:
    """Bytes for both sides, and the core's share of the loop's."""
    env = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    found: dict[str, Any] = {}
    for side in SIDES:
        command = [sys.executable, "-m", "tests.benchmarks.train_step", *argv, "--memory-of", side]
        done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
        found[side] = json.loads(done.stdout)
    for name in found["core"]:
        found[f"{name}_to_torch"] = found["core"][name] / found["torch"][name]
    return found


def measure(side: str, args: argparse.Namespace, items: list[MatchItem]) -> dict[str, int]:
    """Bytes of this process: when the model is loaded, and at the height of the steps."""
    loop: Any = CoreLoop(args) if side == "core" else torch_loop(args)
    loaded = _resident("VmRSS")
    for item in items:
        loop.add(item)
    # The encoders ran; their peak is not the steps'.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    draw = np.random.default_rng(0)
    for step in range(args.memory_steps):
        indices = [(step * args.batch_size + n) % len(items) for n in range(args.batch_size)]
        if side == "core":
            loop.step(indices)
        else:
            shape = (len(indices), 1, *loop.items[0][0].shape[1:])
            noise = draw.standard_normal(shape).astype(np.float32)
            loop.step(indices, draw.integers(300, 700, (len(indices), 1)), noise)
    peak = _resident("VmHWM")
    return {"loaded": loaded, "peak": peak, "steps": peak - loaded}


def _resident(field: str) -> int:
    """`VmRSS` is what is resident now, `VmHWM` the most there was since the mark was reset."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the kernel does not tell {field}")
