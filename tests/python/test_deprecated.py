"""Names of the release before: they are the same things under their new names, and say so."""

from __future__ import annotations

from importlib import import_module

import pytest

MOVED = [
    ("discffusion.data.table", "discffusion.data.tables.table", "load"),
    ("discffusion.data.hf", "discffusion.data.tables.hf", "load"),
    ("discffusion.data.webdataset", "discffusion.data.archives.webdataset", "load"),
    ("discffusion.explaining.words", "discffusion.explanation.words", "Word"),
    ("discffusion.explaining.words", "discffusion.explanation.words", "Token"),
]


@pytest.mark.parametrize(("old", "new", "name"), MOVED)
def test_an_old_path_leads_to_the_new_one(old: str, new: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{new}.{name}"):
        value = getattr(import_module(old), name)
    assert value is getattr(import_module(new), name)


@pytest.mark.parametrize(("old", "new"), [("Desk", "DemoService"), ("Answer", "RankingResult")])
def test_an_old_name_is_the_new_one(old: str, new: str) -> None:
    module = import_module("discffusion.demo")
    with pytest.warns(DeprecationWarning, match=f"demo.{new}"):
        assert getattr(module, old) is getattr(module, new)


@pytest.mark.parametrize("old", [*sorted({old for old, _, _ in MOVED}), "discffusion.demo"])
def test_what_was_never_there_is_not(old: str) -> None:
    with pytest.raises(AttributeError):
        import_module(old).nothing  # noqa: B018
