"""Whom the served page listens to, and how much it takes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from tests.python.demo.server import Served, served


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(folder: Path, tiny: Path) -> Iterator[Served]:
    options = ("--model", str(tiny), "--device", "cpu", "--max-megabytes", "1")
    with served(folder, *options, environment={**os.environ, "TMPDIR": str(folder)}) as running:
        yield running


def test_this_machine_alone_by_default(server: Served) -> None:
    address = urlsplit(server.url)
    assert address.hostname == "127.0.0.1"
    socket.create_connection(("127.0.0.1", address.port), timeout=10).close()
    # an address of this machine as well, which a server at all addresses would answer
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", address.port), timeout=10)


def test_a_file_that_is_too_large_is_not_kept(server: Served, folder: Path) -> None:
    def sent(name: str, size: int) -> int:
        files = {"files": (name, bytes(size))}
        return requests.post(f"{server.url}/gradio_api/upload", files=files, timeout=60).status_code

    assert sent("small.png", 1000) == 200
    assert sent("large.png", (1 << 20) + 1) == 413
    kept = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1000]
    assert kept == []


@pytest.mark.parametrize("name", ["../../../outside.png", "/tmp/outside.png", "a/../../outside.png"])
def test_names_of_files_that_lead_elsewhere(server: Served, folder: Path, name: str) -> None:
    answer = requests.post(f"{server.url}/gradio_api/upload", files={"files": (name, b"sent")}, timeout=60)
    if answer.ok:
        (place,) = answer.json()
        assert Path(place).resolve().is_relative_to(next(folder.glob("discffusion-demo-*")))
    assert not Path("/tmp/outside.png").exists()
    assert not any((parent / "outside.png").exists() for parent in (folder, *folder.parents))


@pytest.mark.parametrize("path", ["/etc/hostname", "../../../../etc/hostname"])
def test_files_of_this_machine_are_not_handed_out(server: Served, path: str) -> None:
    answer = requests.get(f"{server.url}/gradio_api/file={path}", timeout=60)
    assert answer.status_code in (403, 404)


def test_a_page_of_elsewhere_is_refused(server: Served) -> None:
    port = urlsplit(server.url).port
    for path in ("/", "/config", "/gradio_api/upload"):
        for method in ("GET", "POST"):
            answer = requests.request(
                method, server.url + path, headers={"Host": f"evil.example:{port}"}, timeout=60
            )
            assert answer.status_code == 403
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert requests.get(server.url, headers={"Host": host}, timeout=60).status_code == 200
