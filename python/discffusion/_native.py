"""Finds torch's libraries without importing torch, and loads the compiled core against them.

The core links ``libtorch_cpu`` and ``libc10`` with the run path ``$ORIGIN/../torch/lib``, which is right where both are
installed side by side. Editable installs and other prefixes have torch elsewhere, and a run path could even find a
second torch than the one that ``import torch`` would. So the libraries are always opened here first, by the path
that Python's own import system gives; the loader then finds them by name, whichever of torch and the core comes first.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
import re
import sys
import threading
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from discffusion.errors import InstallationError

# The C++ interface of torch changes with each minor version, so the core fits exactly one.
TORCH = "2.11"
# What NVIDIA's drivers show: Linux's, that of WSL2 and that of Tegra.
DRIVERS = ("/dev/nvidia0", "/dev/nvidiactl", "/proc/driver/nvidia", "/dev/dxg", "/dev/nvmap")
PIP_LINE = f'pip install "torch=={TORCH}.*"'

_LOCK = threading.RLock()
_handles: list[ctypes.CDLL] = []  # kept so that the libraries are never closed


def torch_folder() -> Path:
    """The folder of the torch package that ``import torch`` would use, found without importing it.

    Raises:
        InstallationError: torch is not installed.
    """
    try:
        spec = importlib.util.find_spec("torch")
    except ValueError:  # a module without a spec stands in sys.modules under that name
        spec = None
    if spec is None or spec.origin is None:
        raise InstallationError(f"torch is not installed; discffusion needs torch {TORCH}: {PIP_LINE}")
    return Path(spec.origin).parent


def torch_version() -> str:
    """The version of that torch, such as ``"2.11.0+cu130"``, read from its files."""
    folder = torch_folder()
    try:
        text = (folder / "version.py").read_text(encoding="utf-8")
    except OSError as error:
        raise InstallationError(
            f"the torch in {folder} is incomplete ({error}); reinstall it: {PIP_LINE}"
        ) from None
    match = re.search(r"^__version__\s*(?::[^=]*)?=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    if match is None:
        raise InstallationError(f"{folder / 'version.py'} names no version; reinstall torch: {PIP_LINE}")
    return match.group(1)


@cache
def core() -> ModuleType:
    """The compiled core, loaded on the first call (about 0.2 s).

    Raises:
        InstallationError: torch is missing or of another version, or the core was not built.
    """
    with _LOCK:
        version = torch_version()
        if not re.match(rf"{re.escape(TORCH)}(\.|\+|a|b|rc|$)", version):
            raise InstallationError(
                f"discffusion needs torch {TORCH} but torch {version} is installed in {torch_folder()}: {PIP_LINE}"
            )
        _open("c10", required=True)
        _open("torch_cpu", required=True)
        module = _import_core()
        if hasattr(os, "register_at_fork"):
            # threads of OpenMP do not come along, and it would wait for them forever
            os.register_at_fork(before=module.before_fork, after_in_child=module.after_fork_in_child)
        return module


def load_cuda(device: str) -> None:
    """Loads torch's CUDA library if `device` may need it, so that CPU users never pay for it.

    Once it is open, the core finds CUDA devices. Where the library or a driver is missing nothing happens, and the core
    says so when it is asked for the device.
    """
    wanted = device.startswith("cuda") or (device == "auto" and _driver_present())
    if wanted:
        with _LOCK:
            _open("torch_cuda", required=False)


def _import_core() -> ModuleType:
    try:
        return import_module("discffusion._core")
    except ModuleNotFoundError as error:
        raise InstallationError(
            "the compiled part of discffusion is missing; install the package (`pip install .`) "
            "rather than importing its source folder"
        ) from error
    except ImportError as error:
        raise InstallationError(
            f"the compiled part of discffusion does not load with torch {torch_version()} ({error}); "
            f"reinstall both: {PIP_LINE} and `pip install --force-reinstall --no-deps discffusion`"
        ) from error


def _driver_present() -> bool:
    return any(Path(path).exists() for path in DRIVERS)


def _open(name: str, *, required: bool) -> None:
    suffix = "dylib" if sys.platform == "darwin" else "so"
    path = torch_folder() / "lib" / f"lib{name}.{suffix}"
    if not path.exists() and not required:
        return
    try:
        _handles.append(ctypes.CDLL(str(path)))
    except OSError as error:
        message = f"torch's library {path} does not load ({error}); reinstall torch: {PIP_LINE}"
        if required:
            raise InstallationError(message) from None
        logging.getLogger("discffusion").warning("%s", message)
