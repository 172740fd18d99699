"""One implementation in a process of its own: `python -m discffusion.bench.child JSON`.

Started by :mod:`discffusion.bench.memory`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Loads the implementation and scores once; what that took."""
    from discffusion.bench.implementations import OURS, ModelSpec, load
    from discffusion.bench.memory import evict
    from discffusion.bench.workloads import Workload, draw

    folder = Path(job["folder"])
    # Drawn first: pictures and noise are given, and cost no implementation anything.
    settings = _settings(job)
    own = draw(Workload(1, 1), settings.resolution)
    if job["cold"]:
        evict(folder)
    before = _counters()

    start = time.perf_counter()
    if job["implementation"] == OURS:
        from discffusion import _native

        _native.core()
        import discffusion.bench.implementations.ours
    else:
        import diffusers
        import torch
        import transformers

        import discffusion.bench.implementations.diffusers_best
        import discffusion.bench.implementations.released  # noqa: F401

        torch.set_num_threads(job["threads"])
        # Both import their classes where they are first named.
        diffusers.UNet2DConditionModel, diffusers.AutoencoderKL, transformers.CLIPTextModel  # noqa: B018
    imported = time.perf_counter()
    spec = ModelSpec(folder, job["variant"], job["device"], job["dtype"])
    implementation = load(job["implementation"], spec)
    if job["implementation"] != OURS:
        for name, choice in job["choices"].items():
            setattr(implementation, name, choice)
    implementation.prepare()
    loaded = time.perf_counter()
    implementation.matrix(own.images, own.texts, settings)
    scored = time.perf_counter()

    after = _counters()
    return {
        "imported": imported - start,
        "loaded": loaded - imported,
        "scored": scored - loaded,
        "peak": _status("VmHWM"),
        "private": _status("RssAnon"),
        "read": after["rchar"] - before["rchar"],
        "fetched": after["read_bytes"] - before["read_bytes"],
        "gpu_peak": _gpu_peak(job["device"]),
    }


def _settings(job: dict[str, Any]) -> Any:
    """BenchSettings made from the model's files alone, so that nothing is loaded yet."""
    import numpy as np

    from discffusion.bench.settings import BenchSettings

    parts = {
        part: json.loads((Path(job["folder"]) / part / "config.json").read_text("utf-8"))
        for part in ("unet", "vae")
    }
    factor = 2 ** (len(parts["vae"]["block_out_channels"]) - 1)
    resolution = int(job["resolution"])
    shape = (job["steps"], int(parts["unet"]["in_channels"]), resolution // factor, resolution // factor)
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    timesteps = tuple(int(t) for t in np.linspace(900, 100, job["steps"]))
    return BenchSettings(timesteps, noise, resolution)


def _status(field: str) -> int:
    """Bytes of this process by the kernel's count; 0 where it keeps none."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def _counters() -> dict[str, int]:
    counters = {"rchar": 0, "read_bytes": 0}
    try:
        for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name in counters:
                counters[name] = int(value)
    except OSError:
        pass
    return counters


def _gpu_peak(device: str) -> int:
    if not device.startswith("cuda"):
        return 0
    import torch

    return int(torch.cuda.max_memory_allocated(device))


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
