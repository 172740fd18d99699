"""The page in a real browser: a visitor uploads a photograph, types texts and looks at the answer."""

from __future__ import annotations

import io
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from skimage import data
from tests.python.demo.browser import Browser, chromium
from tests.python.demo.server import Served, served
from tests.python.training_items import item

from discffusion import Scorer, Trainer

HERE = {"127.0.0.1", "localhost", "::1"}
TEXTS = ["an astronaut", "a cat on a sofa"]


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photograph") / "astronaut.jpg"
    PIL.Image.fromarray(data.astronaut()).save(path)
    return path


@pytest.fixture(scope="module")
def deltas(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """Deltas that change the scores: those of one large step."""
    path = tmp_path_factory.mktemp("deltas") / "one-step.safetensors"
    trainer = Trainer(Scorer(tiny, device="cpu", steps=2), learning_rate=0.1)
    trainer.fit([item(0), item(1)], progress=False)
    trainer.save(path)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny: Path, deltas: Path) -> Iterator[Served]:
    options = (
        "--model",
        str(tiny),
        "--device",
        "cpu",
        "--steps",
        "2",
        "--deltas",
        str(deltas),
        "--max-megapixels",
        "1",
    )
    with served(tmp_path_factory.mktemp("server"), *options) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, server: Served) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(server.url)
        yield opened


def expected(scorer: Scorer, photograph: Path, texts: list[str]) -> list[tuple[str, ...]]:
    """Score, probability (the model has none) and text of each line."""
    return [(f"{score:.6g}", "", texts[index]) for index, score in scorer.rank(photograph, texts)]


def test_a_visit(browser: Browser, server: Served, photograph: Path, scorer: Scorer, deltas: Path) -> None:
    browser.upload(photograph)
    assert "astronaut" in browser.preview()
    browser.type(*TEXTS)
    browser.click("#score")
    plain = expected(scorer, photograph, TEXTS)
    browser.wait(lambda: browser.rows() == plain)
    first = browser.wait(browser.maps)
    with urllib.request.urlopen(first) as answer:
        picture = PIL.Image.open(io.BytesIO(answer.read()))
    assert min(picture.size) > 100
    assert len(np.unique(np.asarray(picture.convert("L")))) > 50  # neither blank nor flat

    browser.choose("#preset", "release")
    browser.click("#score")
    browser.wait(
        lambda: browser.rows() == expected(scorer.with_config("release", steps=2), photograph, TEXTS)
    )

    browser.choose("#preset", "default")
    browser.pick("#deltas", deltas.name)
    browser.click("#score")
    changed = Scorer.with_config(scorer)
    changed.load_deltas(deltas)
    assert expected(changed, photograph, TEXTS) != plain
    browser.wait(lambda: browser.rows() == expected(changed, photograph, TEXTS))
    assert deltas.name in browser.text("#note")

    second = browser.wait(lambda: browser.maps() != first and browser.maps())
    browser.pick("#shown", changed_text(browser))
    browser.wait(lambda: browser.maps() not in ("", first, second))


def changed_text(browser: Browser) -> str:
    """The text whose maps are not shown: the last of the ranking."""
    return browser.rows()[-1][-1]


def test_what_is_wrong_is_said(browser: Browser, photograph: Path, tmp_path: Path) -> None:
    browser.open(browser.driver.current_url)
    browser.click("#score")
    browser.wait(lambda: "there is no image" in browser.message())
    browser.upload(photograph)
    browser.preview()
    browser.click("#score")
    browser.wait(lambda: "there is no text" in browser.message())
    large = tmp_path / "large.png"
    PIL.Image.new("1", (2000, 2000)).save(large)
    browser.open(browser.driver.current_url)
    browser.upload(large)
    browser.preview()
    browser.type("a cat")
    browser.click("#score")
    browser.wait(lambda: "2000 x 2000 pixels; this page takes 1 million" in browser.message())


def test_nothing_is_asked_of_others(browser: Browser, server: Served) -> None:
    """After all of the above: neither the page nor the server has asked for another host."""
    assert browser.requests() == {"127.0.0.1"}
    assert server.hosts() <= HERE
    assert server.hosts()  # that the notes are taken at all: the server asks itself whether it runs


def test_ctrl_c_ends_it_and_removes_what_was_sent(tmp_path: Path, tiny: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with served(tmp_path, "--model", str(tiny), "--device", "cpu", environment=environment) as running:
        assert list(tmp_path.glob("discffusion-demo-*"))
        assert running.interrupt() == (0, "")
    assert not list(tmp_path.glob("discffusion-demo-*"))
