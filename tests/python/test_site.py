"""The documentation's site: built without a warning, and its pages ask nothing of other hosts."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from tests.python.demo.browser import chromium

ROOT = Path(__file__).parents[2]
#: prose with equations, code that is highlighted, pictures, signatures
PAGES = (
    "index.html",
    "method.html",
    "guide/explain.html",
    "reproduction/report.html",
    "reference/scorer.html",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    # not --quiet: what is not shown is not counted as a warning either
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_all_pages_are_there(site: Path) -> None:
    sources = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    assert {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")} >= sources


def test_its_pages_ask_nothing_of_others(address: str, tmp_path: Path) -> None:
    with chromium(tmp_path) as browser:
        for page in PAGES:
            browser.driver.get(f"{address}/{page}")
            browser.wait(lambda: browser.find("article h1"))
        browser.driver.find_element(By.CSS_SELECTOR, "input.md-search__input").send_keys("timestep")
        browser.wait(lambda: browser.find(".md-search-result__item"))
        assert browser.requests() == {"127.0.0.1"}
