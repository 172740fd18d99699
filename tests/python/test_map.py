"""What the documentation says of files is true of the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["code.md", "extending.md", "method.md"])
def test_named_files_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    named = set(re.findall(r"`((?:src|python|tests|docs|tools)/[\w./]+)`", text))
    assert named
    missing = sorted(path for path in named if "NAME" not in path and not (ROOT / path).exists())
    assert not missing


@pytest.mark.parametrize(
    ("what", "holds"),
    [
        ("Eq. 3", "fn add_noise"),
        ("Eq. 4", "expm1"),
        ("Eq. 5", "W + p"),
        ("Eq. 6", "pub fn triplet"),
        ("Eq. 7", "Attr_h"),
        ("scheduler: configuration", "scheduler_config.json"),
        ("text encoder (CLIP)", "impl ClipTextEncoder"),
        ("`load_lora_weights`: keys", "lora_unet_"),
    ],
)
def test_the_map_leads_to_it_in_one_step(what: str, holds: str) -> None:
    """The first file that a row of the map names is the one where the thing is."""
    rows = (ROOT / "docs" / "code.md").read_text("utf-8").splitlines()
    row = next(row for row in rows if row.startswith("|") and what in row)
    path = re.search(r"`(src/[\w./]+)`", row)
    assert path and holds in (ROOT / path[1]).read_text("utf-8")
