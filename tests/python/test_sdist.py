"""The source distribution holds what a build reads, and a build can begin from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from email import message_from_string
from pathlib import Path

import pytest

from discffusion import __version__

pytest.importorskip("maturin")
tomllib = pytest.importorskip("tomllib")
if shutil.which("cargo") is None:
    pytest.skip("maturin asks cargo what the crate is", allow_module_level=True)

ROOT = Path(__file__).parents[2]
# besides src/ and python/
READ = (
    ".cargo/config.toml",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "build.rs",
    "pyproject.toml",
    "tools/build_backend.py",
)


def hook(folder: Path, call: str) -> subprocess.CompletedProcess[str]:
    """Calls a function of the build backend that ``pyproject.toml`` in `folder` names, as pip does."""
    system = tomllib.loads((folder / "pyproject.toml").read_text())["build-system"]
    code = (
        f"import sys; sys.path[:0] = {system['backend-path']!r}\n"
        f"import {system['build-backend']} as backend; print(backend.{call})"
    )
    # with what cargo has, which is all that the core was built of
    environment = {**os.environ, "CARGO_NET_OFFLINE": "true", "CARGO_TARGET_DIR": str(ROOT / "target")}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    built = hook(ROOT, f"build_sdist({str(folder)!r})")
    assert built.returncode == 0, built.stderr
    (archive,) = folder.glob("*.tar.gz")
    assert archive.name == f"discffusion-{__version__}.tar.gz"
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder / f"discffusion-{__version__}"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def sources(name: str) -> set[str]:
    """What is in a folder of the tree, without what builds and runs leave there."""
    return {
        f"{name}/{path}"
        for path in files(ROOT / name)
        if not path.endswith(".so") and "__pycache__" not in path and not Path(path).name.startswith(".")
    }


def test_it_holds_all_that_a_build_reads_and_nothing_else(unpacked: Path) -> None:
    wanted = sources("src") | sources("python") | set(READ)
    # what the kernels are compiled of, and what is compiled in by name
    assert {"src/kernels/attend.cpp", "src/kernels/shim.cpp", "src/kernels/cuda/attend.cu"} < wanted
    assert files(unpacked) - {"PKG-INFO"} == wanted
    # the bundled models, not their recipes
    bundled = {path for path in wanted if path.startswith("python/discffusion/pocket/")}
    assert {Path(path).name for path in bundled if path.endswith(".py")} == {"__init__.py", "world.py"}
    assert {Path(path).parts[3] for path in bundled if not path.endswith(".py")} == {
        "model",
        "clip_model",
        "calibration.safetensors",
    }


def test_files_that_sources_compile_in_are_there(unpacked: Path) -> None:
    named = subprocess.run(
        ["grep", "-rhoE", r'include_(str|bytes)!\("[^"]+"\)', "src"],
        cwd=unpacked,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert len(named) > 5
    present = {Path(path).name for path in files(unpacked)}
    assert {Path(one.split('"')[1]).name for one in named} <= present


def test_metadata_can_be_prepared_from_it(unpacked: Path, tmp_path: Path) -> None:
    made = hook(unpacked, f"prepare_metadata_for_build_wheel({str(tmp_path)!r})")
    assert made.returncode == 0, made.stderr
    folder = made.stdout.split()[-1]
    told = message_from_string((tmp_path / folder / "METADATA").read_text())
    assert (told["Name"], told["Version"]) == ("discffusion", __version__)
    assert any(line.startswith("torch==2.11") for line in told.get_all("Requires-Dist", []))
    assert "pytest11" in (tmp_path / folder / "entry_points.txt").read_text()
