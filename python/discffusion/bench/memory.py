"""Memory, and the time from nothing to the first score, of each implementation in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from discffusion.bench.implementations import ModelSpec
from discffusion.errors import DiscffusionError

__all__ = ["Footprint", "measure_memory", "weight_bytes"]

_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Footprint:
    """What one process came to that loaded a model and scored one picture with one text.

    Attributes:
        imported: seconds to import what the implementation needs.
        loaded: seconds to load the model after that.
        scored: seconds of the first score after that.
        peak: bytes resident at most, files that are mapped included (0 where the system does not tell).
        private: of what is resident in the end, bytes that are no file's.
        read: bytes that the process asked the system for with read calls.
        fetched: bytes that had to come from the disk, mapped files included.
        gpu_peak: bytes of GPU memory at most; 0 on the CPU.
        cold: whether the weights were put out of the system's cache first.
    """

    imported: float
    loaded: float
    scored: float
    peak: int
    private: int
    read: int
    fetched: int
    gpu_peak: int
    cold: bool

    @property
    def to_first_score(self) -> float:
        """Seconds from the start of the imports to the first score."""
        return self.imported + self.loaded + self.scored

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "to_first_score": self.to_first_score}


def measure_memory(
    names: Mapping[str, Mapping[str, Any]],
    spec: ModelSpec,
    *,
    threads: int,
    steps: int,
    resolution: int,
    cold: bool,
) -> dict[str, Footprint]:
    """By implementation.

    Args:
        names: the implementations, and what was chosen for each (:attr:`Implementation.about`).
        steps: timesteps of the score.
        cold: whether the weights are put out of the system's cache before.
    """
    footprints = {}
    for name, choices in names.items():
        job = {
            "implementation": name,
            "choices": dict(choices),
            "folder": str(spec.folder),
            "variant": spec.variant,
            "device": spec.device,
            "dtype": spec.dtype,
            "threads": threads,
            "steps": steps,
            "resolution": resolution,
            "cold": cold,
        }
        footprints[name] = Footprint(**_run(job), cold=cold)
    return footprints


def weight_bytes(folder: Path) -> int:
    """Size of the weights in a model's folder, as they are stored; the VAE's decoder is among them."""
    files = [file for part in _PARTS for file in (folder / part).glob("*.safetensors")]
    return sum(file.stat().st_size for file in files)


def evict(folder: Path) -> None:
    """Asks the system to drop the weight files from its cache; where it cannot be asked nothing happens."""
    advise = getattr(os, "posix_fadvise", None)
    for part in _PARTS:
        for file in (folder / part).glob("*.safetensors"):
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)  # pages that are not on the disk yet would stay
                if advise is not None:
                    advise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            except OSError:
                pass
            finally:
                os.close(descriptor)


def _run(job: dict[str, Any]) -> dict[str, Any]:
    env = {**os.environ, "OMP_NUM_THREADS": str(job["threads"]), "MKL_NUM_THREADS": str(job["threads"])}
    done = subprocess.run(
        [sys.executable, "-m", "discffusion.bench.child", json.dumps(job)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DiscffusionError(
            f"the process that measures {job['implementation']} ended with {done.returncode}: {last}"
        )
    counted: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return counted
