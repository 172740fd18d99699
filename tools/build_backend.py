"""maturin, told which torch to link.

The build script of torch-sys asks ``python3`` on the PATH (``python`` in a virtual environment) for torch. Under
``/x/.venv/bin/pip install .`` that is some other Python, and in an isolated build torch lies in a folder of its own.
Here the Python that runs the build is put first on the PATH, and the folder of its torch is named in a variable that
cargo watches, so that a build against another torch starts anew instead of linking libraries that are gone.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import maturin

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

Settings = Mapping[str, Any] | None

get_requires_for_build_sdist = maturin.get_requires_for_build_sdist
get_requires_for_build_wheel = maturin.get_requires_for_build_wheel
get_requires_for_build_editable = maturin.get_requires_for_build_editable
prepare_metadata_for_build_wheel = maturin.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = maturin.prepare_metadata_for_build_editable
build_sdist = maturin.build_sdist


def build_wheel(folder: str, settings: Settings = None, metadata: str | None = None) -> str:
    """A wheel, by maturin."""
    _point_to_torch()
    return str(maturin.build_wheel(folder, settings, metadata))


def build_editable(folder: str, settings: Settings = None, metadata: str | None = None) -> str:
    """An editable wheel, by maturin."""
    _point_to_torch()
    return str(maturin.build_editable(folder, settings, metadata))


def _point_to_torch() -> None:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "torch 2.11 is needed to build: pip install torch==2.11.0, or build with isolation"
        )
    os.environ.pop("VIRTUAL_ENV", None)  # so that torch-sys takes python3, which lies beside sys.executable
    here, first = Path(sys.executable).parent, shutil.which("python3")
    if first is None or Path(first).parent != here:
        os.environ["PATH"] = os.pathsep.join([str(here), os.environ.get("PATH", os.defpath)])
    os.environ["LIBTORCH_USE_PYTORCH"] = str(Path(spec.origin).parent)  # any value switches it on
