"""The Python examples of the README and the docs run, on the pocket model.

Blocks of one page run in order and share their names, in a folder with ``examples/scene.png``. A block that needs what
is not here says so to its readers: its fence has ``title="not run: REASON"``.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from discffusion import Scorer, compare, evaluate, load_dataset

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```python(?P<options>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r' title="not run: [^"]+"')

#: what takes minutes is run in small
SMALLER = {"n=270": "n=4", "n=80": "n=4", "epochs=8": "epochs=1"}


def blocks(page: Path) -> list[tuple[int, str, str]]:
    """Line, fence options and code of each Python block."""
    text = page.read_text()
    return [
        (text.count("\n", 0, found.start()) + 2, found["options"], found["code"])
        for found in FENCE.finditer(text)
    ]


def readme_names() -> dict[str, Any]:
    """What the README's blocks take for granted."""
    scene = "examples/scene.png"
    return {
        "images": [scene, scene],
        "texts": ["a red circle", "a blue square"],
        **{each.__name__: each for each in (Scorer, compare, evaluate, load_dataset)},
    }


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    names = readme_names() if page.name == "README.md" else {}
    ran = 0
    for line, options, code in blocks(page):
        if options:
            assert NOT_RUN.fullmatch(options), f"{page}:{line - 1}: the fence says {options!r}"
            compile(code, str(page), "exec")
            continue
        if page.name == "README.md":
            for large, small in SMALLER.items():
                code = code.replace(large, small)
        exec(
            compile("\n" * (line - 1) + code, str(page), "exec"), names
        )  # line numbers of errors are the page's
        ran += 1
    assert ran
    monkeypatch.undo()
