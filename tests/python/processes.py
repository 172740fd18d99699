"""Several processes of one job, as ``torchrun`` would start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import discffusion

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """Of a process that finds the package and the tests, with one thread."""
    path = os.pathsep.join([str(ROOT), str(Path(discffusion.__file__).parents[1])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def job(arguments: Sequence[str], count: int) -> list[subprocess.Popen[str]]:
    """Starts `count` processes of ``python -m`` that are told of each other by environment variables alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env={**environment(), **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def finished(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What they print; all must succeed."""
    printed = []
    for process in processes:
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        printed.append(out)
    return printed
