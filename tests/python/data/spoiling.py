"""Small good datasets, and ways to spoil one thing in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.python.data.published_files import FIXTURES, python2_pickle, question, ref, refcocog, touch, vqav2

from discffusion.data import load_dataset
from discffusion.errors import DatasetError

COMVG = "compositional_visual_genome.csv"
REFS = "refs(umd).p"
QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "v2_mscoco_val2014_annotations.json"
VQA = "vqa_text_test.csv"

Spoil = Callable[[Path], None]
Cases = list[tuple[str, Spoil, tuple[str, ...]]]


def build(name: str, root: Path) -> None:
    """A small good dataset."""
    if name == "comvg":
        (root / COMVG).write_bytes(EXCERPT)
        touch(root / "VG_100K", [f"{n}.jpg" for n in numbers_of(EXCERPT)])
    elif name == "refcocog":
        refcocog(root, good_refs())
    elif name == "vqav2":
        vqav2(root, good_questions())
    else:
        (root / VQA).write_bytes((FIXTURES / "vqa_text_test_excerpt.csv").read_bytes())
        (root / "test.txt").write_text("\n".join(LINES), encoding="utf-8")
        numbers = [108327, 8844, 236016, 107840, *range(12)]
        touch(root / "val2014", [f"COCO_val2014_{n:012d}.jpg" for n in numbers])


EXCERPT = (FIXTURES / "comvg_excerpt.csv").read_bytes()
LINES = [f"COCO_val2014_{n:012d}.jpg*The question is asking about others: what? it is {n}" for n in range(12)]


def numbers_of(data: bytes) -> set[str]:
    rows = data.decode().splitlines()[1:]
    return {name for row in rows for name in row.rsplit(",", 3)[1:3]}


def good_refs() -> list[dict[str, Any]]:
    return [ref(n, n, "test", [f"dog {n}", f"the dog {n}"]) for n in range(1, 8)]


def good_questions() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    asked = [question(n, 1, f"What is {n}?", "other", f"thing {n}") for n in range(12)]
    return [*asked, question(99, 2, "Is it?", "yes/no", "yes")]


def raw(name: str, data: bytes) -> Spoil:
    return lambda root: void((root / name).write_bytes(data))


def void(_: object) -> None:
    return None


def replaced(name: str, old: bytes, new: bytes) -> Spoil:
    def spoil(root: Path) -> None:
        data = (root / name).read_bytes()
        assert old in data
        (root / name).write_bytes(data.replace(old, new, 1))

    return spoil


def gone(name: str) -> Spoil:
    return lambda root: (root / name).unlink()


def cut(name: str) -> Spoil:
    return lambda root: void((root / name).write_bytes((root / name).read_bytes()[:-20]))


def refs_with(change: Callable[[list[Any]], object]) -> Spoil:
    def spoil(root: Path) -> None:
        refs = good_refs()
        change(refs)
        (root / REFS).write_bytes(python2_pickle(refs))

    return spoil


def json_with(name: str, change: Callable[[Any], object]) -> Spoil:
    def spoil(root: Path) -> None:
        value = json.loads((root / name).read_text())
        change(value)
        (root / name).write_text(json.dumps(value))

    return spoil


def row(name: str, old: str, new: str) -> Spoil:
    return replaced(name, old.encode(), new.encode())


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def check(name: str, root: Path, options: dict[str, Any], spoil: Spoil, parts: tuple[str, ...]) -> None:
    """The dataset is good, and spoilt it is a DatasetError with these parts in its message."""
    build(name, root)
    assert len(load_dataset(name, root, **options)) > 5
    spoil(root)
    with pytest.raises(DatasetError) as caught:
        load_dataset(name, root, **options)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert len(message) < 1000
