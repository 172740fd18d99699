"""``discffusion info``."""

from __future__ import annotations

import os
import platform
from typing import Any

import typer

import discffusion
from discffusion import _native
from discffusion.cli import words
from discffusion.cli.options import Setup
from discffusion.cli.results import as_json
from discffusion.errors import DiscffusionError, InstallationError


def info(setup: Setup) -> None:
    """Tell what is installed, which devices there are and what the model is.

    Works without torch or a model too, and then says what is wrong; the exit status is 0 if all is well.
    """
    facts: dict[str, Any] = {
        "discffusion": discffusion.__version__,
        "python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        "torch": None,
        "libtorch": None,
        "core": None,
        "cpus": os.cpu_count(),
        "cuda": None,
        "model": None,
    }
    problem: DiscffusionError | None = None
    try:
        _look(facts, setup)
    except DiscffusionError as error:
        problem = error
    if setup.json:
        problem_text = None if problem is None else words.spoken(str(problem), words.now)
        typer.echo(as_json({**facts, "problem": problem_text}))
    else:
        for name, value in facts.items():
            _print(name, value)
    if problem is not None:
        raise problem


def _look(facts: dict[str, Any], setup: Setup) -> None:
    """Fills in what can be found, up to the first thing that is wrong."""
    facts["torch"] = _native.torch_version()
    facts["libtorch"] = str(_native.torch_folder() / "lib")
    core = _native.core()
    facts["core"] = f"{core.__version__} for torch {core.TORCH_VERSION}"
    _native.load_cuda(setup.device)
    facts["cuda"] = _cuda(core)
    with setup.scorer() as scorer:
        facts["model"] = {"id": scorer.model_id, **scorer.info()}


def _cuda(core: Any) -> str:
    if core.cuda_available():
        return f"{core.cuda_device_count()} device(s)"
    try:
        has_library = (_native.torch_folder() / "lib" / "libtorch_cuda.so").exists()
    except InstallationError:
        has_library = False
    return "no device found" if has_library else "not in this torch"


def _print(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        typer.echo(f"{name + ':':<13} {'not found' if value is None else value}")
        return
    typer.echo(f"{name}:")
    for key, entry in value.items():
        if key == "sites":  # the old name of the layers
            continue
        if key == "layers":
            entry = ", ".join(f"{layer['name']} ({layer['heads']} heads)" for layer in entry)
        elif isinstance(entry, dict):
            entry = ", ".join(
                f"{part} {value_of:,}" if isinstance(value_of, int) else f"{part} {value_of}"
                for part, value_of in entry.items()
            )
        typer.echo(f"  {key.replace('_', ' ') + ':':<22} {entry}")
