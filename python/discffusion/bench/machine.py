"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["busy", "commit", "describe_machine", "memory_available", "versions"]

_PACKAGES = ("discffusion", "torch", "diffusers", "transformers", "numpy")


def describe_machine(threads: int) -> dict[str, Any]:
    """Processor, cores, threads in use, memory and load."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory": _meminfo("MemTotal"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def busy(machine: dict[str, Any]) -> str | None:
    """A warning where other programs have the machine's attention."""
    if machine["load"] < 0.3 * (machine["cores"] or 1):
        return None
    return (
        f"the machine was busy when this began (load {machine['load']} on {machine['cores']} cores): "
        "times are longer than they need be, and ratios less certain"
    )


def cpu_name() -> str:
    """As the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """Versions of the packages at work; None for those that are not there."""
    from discffusion import _native
    from discffusion._version import __version__

    numbers: dict[str, str | None] = {"discffusion": __version__, "torch": _native.torch_version()}
    for name in _PACKAGES[2:]:
        try:
            numbers[name] = version(name)
        except PackageNotFoundError:
            numbers[name] = None
    return numbers


def commit() -> str | None:
    """The commit that this package's files were checked out from, with a mark if files have changed since."""
    here = Path(__file__).resolve().parent
    head = _git(here, "rev-parse", "--short=12", "HEAD")
    # A package installed under a checkout of something else is none of its files.
    if not head or not _git(here, "ls-files", "--", "../__init__.py"):
        return None
    return head + (" with changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")


def memory_available() -> int | None:
    """Bytes of main memory that are free or can be made so; None where the system does not tell."""
    return _meminfo("MemAvailable")


def _meminfo(field: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
