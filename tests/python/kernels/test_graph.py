"""CUDA graphs without a device: what is taken for granted of libtorch's class, and what is asked of it and when."""

from __future__ import annotations

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "src" / "kernels"
TORCH = Path(torch.__file__).parent
CXX = [
    os.environ.get("CXX", "c++"),
    "-std=c++17",
    "-isystem",
    str(TORCH / "include"),
    f"-I{SOURCES}",
    f"-I{SOURCES.parent / 'runtime'}",
]


def cuda_headers() -> list[Path]:
    """The folders of CUDA's headers, from the packages that have them."""
    nvidia = find_spec("nvidia")
    places = list(nvidia.submodule_search_locations or []) if nvidia else []
    return [folder for place in places for folder in Path(place).glob("*/include")]


def test_the_class_is_as_its_header_says(tmp_path: Path) -> None:
    headers = cuda_headers()
    if not any((folder / "crt" / "host_config.h").exists() for folder in headers):
        pytest.skip("CUDA's headers are not installed")
    folders = [argument for folder in headers for argument in ("-isystem", str(folder))]
    line = [*CXX, *folders, "-DWITH_CUDA_HEADERS", "-fsyntax-only"]
    source = SOURCES / "graph.cpp"
    subprocess.run([*line, str(source)], check=True)

    # another class would be found out
    other = tmp_path / "other.cpp"
    other.write_text(source.read_text().replace("Object) && alignof", "Object) / 100 && alignof"))
    refused = subprocess.run([*line, str(other)], capture_output=True, text=True, check=False)
    assert refused.returncode != 0 and "static assertion failed" in refused.stderr


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("graph")
    library, program = folder / "libtorch_cuda.so", folder / "graph"
    link = [f"-L{TORCH / 'lib'}", f"-Wl,-rpath,{TORCH / 'lib'}", "-lc10"]
    shared = ["-shared", "-fPIC", f"-Wl,-soname,{library.name}"]
    subprocess.run([*CXX, *shared, str(HERE / "fake_cuda.cpp"), "-o", str(library), *link], check=True)
    sources = [str(HERE / "graph_main.cpp"), str(SOURCES / "graph.cpp")]
    subprocess.run([*CXX, "-Wall", "-Wextra", "-Werror", *sources, "-o", str(program), *link], check=True)
    return program, library


def run(program: Path, *arguments: Path, **environment: str) -> list[str]:
    line = [str(program), *map(str, arguments)]
    done = subprocess.run(line, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_graph_is_recorded_on_its_own_stream_and_started_on_the_callers(program: tuple[Path, Path]) -> None:
    assert run(*program) == [
        "graphs: yes",
        "wait for 2",
        "made on 0 of 0",
        "device 2",
        "stream 7 of 2",
        "wait for 2",
        "begin on 7 of 2",
        "end on 7 of 2",
        "wait for 2",
        "stream 0 of 2",
        "device 0",
        "replay on 0 of 0",
        "wait for 2",
        "gone on 0 of 0",
    ]


@pytest.mark.parametrize("fails", ["begin", "end"])
def test_after_an_error_the_caller_computes_where_it_did(program: tuple[Path, Path], fails: str) -> None:
    said = run(*program, FAILS=fails)
    at = said.index(f"error: {fails} failed")
    assert said[at - 1] == f"{fails} on 7 of 2"
    assert said[at + 1 :] == ["wait for 2", "stream 0 of 2", "device 0", "wait for 2", "gone on 0 of 0"]


def test_an_error_of_a_started_graph_is_told(program: tuple[Path, Path]) -> None:
    assert "error: replay failed" in run(*program, FAILS="replay")


def test_the_library_has_what_is_looked_for(program: tuple[Path, Path]) -> None:
    library = TORCH / "lib" / "libtorch_cuda.so"
    if not library.exists():
        pytest.skip("this torch has no CUDA")
    said = run(program[0], library)
    assert said[0] == "graphs: yes"
    if not torch.cuda.is_available():
        assert said[1].startswith("error: ")


def test_without_the_library_there_are_none(program: tuple[Path, Path]) -> None:
    said = run(program[0])
    assert said[0] == "graphs: no" and said[1].startswith("error: libtorch's CUDA graphs are not there")
