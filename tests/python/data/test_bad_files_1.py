"""Files of ComVG and RefCOCOg that are not what was shipped: each error names the file and the row."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from tests.python.data.spoiling import (
    COMVG,
    EXCERPT,
    REFS,
    Cases,
    Spoil,
    check,
    cut,
    gone,
    good_refs,
    json_with,
    nested,
    raw,
    refs_with,
    replaced,
    row,
)

A = "annotations"

COMVG_CASES: Cases = [
    ("no file", gone(COMVG), ("holds none of", COMVG)),
    ("empty file", raw(COMVG, b""), (COMVG, "is empty")),
    ("blank lines only", raw(COMVG, b"\r\n\r\n"), (COMVG, "is empty")),
    ("header only", raw(COMVG, EXCERPT.split(b"\r\n")[0] + b"\r\n"), (COMVG, "holds no rows")),
    ("not UTF-8", replaced(COMVG, b"a man", b"\xff man"), (COMVG, "not UTF-8")),
    ("a column is missing", row(COMVG, "neg_value", "kind"), (COMVG, "'neg_value'")),
    ("a column twice", row(COMVG, "neg_value", "sentence"), (COMVG, "'sentence' twice")),
    (
        "a field too many",
        row(COMVG, "2379026,subject", "2379026,subject,more"),
        (COMVG, "line 3", "8 fields"),
    ),
    ("a field too few", row(COMVG, "2379026,subject", "subject"), (COMVG, "line 3", "6 fields")),
    ("an open quote", row(COMVG, "5273,a horse", '5273,"a horse'), (COMVG, "line 5")),
    ("unknown kind", row(COMVG, "2379026,subject", "2379026,colour"), (COMVG, "line 3", "'colour'")),
    ("id twice", row(COMVG, "\n16,", "\n1,"), (COMVG, "line 3", "'1' occurs twice")),
    ("id empty", row(COMVG, "\n16,", "\n,"), (COMVG, "line 3", "is empty")),
    (
        "image is no number",
        row(COMVG, "2379026", "2379026.5"),
        (COMVG, "line 3", "neg_image_id", "2379026.5"),
    ),
    ("image leads out", row(COMVG, "2410770", "../../etc/passwd"), (COMVG, "line 3", "pos_image_id")),
    ("the same image", row(COMVG, "2379026", "2410770"), (COMVG, "line 3", "the same")),
    ("two words", row(COMVG, "man,layingin,grass", "man,grass"), (COMVG, "line 3", "pos_triplet")),
    (
        "tuple is a call",
        row(COMVG, "('cat', 'laying in', 'grass')", "exit(3)"),
        (COMVG, "line 3", "neg_triplet"),
    ),
    (
        "tuple of two",
        row(COMVG, "('cat', 'laying in', 'grass')", "('a', 'b')"),
        (COMVG, "line 3", "neg_triplet"),
    ),
    (
        "tuple of numbers",
        row(COMVG, "('cat', 'laying in', 'grass')", "(1, 2, 3)"),
        (COMVG, "line 3", "three strings"),
    ),
    (
        "tuple cut",
        row(COMVG, "('cat', 'laying in', 'grass')", "('cat', 'lay"),
        (COMVG, "line 3", "neg_triplet"),
    ),
    ("tuple deep", row(COMVG, "('cat', 'laying in', 'grass')", "(" * 900), (COMVG, "line 3", "neg_triplet")),
    ("tuple huge", row(COMVG, "('cat', 'laying in', 'grass')", "9" * 5000), (COMVG, "line 3", "neg_triplet")),
]

REFCOCOG_CASES: Cases = [
    ("no refs", gone(REFS), ("holds none of", REFS)),
    ("no instances", gone("instances.json"), ("holds none of instances.json",)),
    ("refs empty", raw(REFS, b""), (REFS, "is empty")),
    ("refs cut", cut(REFS), (REFS, "byte", "it is truncated")),
    ("refs are JSON", raw(REFS, b'[{"ref_id": 1}]'), (REFS, "byte 0")),
    ("refs of a class", raw(REFS, pickle.dumps([Path("x")])), (REFS, "asks for", "nothing of it was run")),
    ("refs are a dict", raw(REFS, pickle.dumps({"refs": []}, 2)), (REFS, "expected a list")),
    ("no refs in the list", raw(REFS, pickle.dumps([], 2)), (REFS, "no split 'test'", "none")),
    ("a ref is a string", refs_with(lambda refs: refs.append("x")), (REFS, "ref 7", "expected an object")),
    ("no ann_id", refs_with(lambda refs: refs[2].pop("ann_id")), (REFS, "ref 2", "'ann_id'")),
    (
        "image_id a string",
        refs_with(lambda refs: refs[2].update(image_id="3")),
        (REFS, "ref 2", "image_id is '3'"),
    ),
    ("split a number", refs_with(lambda refs: refs[2].update(split=1)), (REFS, "ref 2", "split")),
    ("no sentences", refs_with(lambda refs: refs[2].update(sentences=[])), (REFS, "ref 2", "no sentences")),
    (
        "sentence without raw",
        refs_with(lambda r: r[2]["sentences"][1].pop("raw")),
        (REFS, "ref 2, sentence 1", "'raw'"),
    ),
    ("sentence a list", refs_with(lambda r: r[2].update(sentences=[[1]])), (REFS, "ref 2, sentence 0")),
    (
        "a ref twice",
        refs_with(lambda refs: refs.append(refs[0])),
        (REFS, "ref 7, sentence 0", "occurs twice"),
    ),
    (
        "nested deep",
        raw(REFS, pickle.dumps([{**good_refs()[0], "split": nested(90)}], 2)),
        (REFS, "ref 0", "split"),
    ),
    (
        "unknown annotation",
        refs_with(lambda r: r[1].update(ann_id=5)),
        (REFS, "ref 1", "instances.json", "id 5"),
    ),
    (
        "annotation of another image",
        refs_with(lambda r: r[1].update(ann_id=30)),
        (REFS, "ref 1", "annotations 2"),
    ),
    ("instances cut", cut("instances.json"), ("instances.json", "is not JSON")),
    ("instances a list", raw("instances.json", b"[]"), ("instances.json", "a list")),
    ("no images", json_with("instances.json", lambda v: v.pop("images")), ("instances.json", "'images'")),
    (
        "image without name",
        json_with("instances.json", lambda v: v["images"][3].pop("file_name")),
        ("images 3", "'file_name'"),
    ),
    (
        "image unknown",
        json_with("instances.json", lambda v: v["images"].pop(3)),
        ("annotations 3", "images", "id 4"),
    ),
    (
        "annotation twice",
        json_with("instances.json", lambda v: v[A].append(v[A][0])),
        ("annotations 7", "id 10 occurs twice"),
    ),
    (
        "category unknown",
        json_with("instances.json", lambda v: v["categories"].clear()),
        ("annotations 0", "categories", "id 18"),
    ),
    (
        "box of three",
        json_with("instances.json", lambda v: v[A][1].update(bbox=[1, 2, 3])),
        ("annotations 1", "bbox"),
    ),
    (
        "box of text",
        json_with("instances.json", lambda v: v[A][1].update(bbox=[1, 2, 3, "4"])),
        ("annotations 1", "bbox"),
    ),
    (
        "box not finite",
        replaced("instances.json", b"[10.5, 5, 8.0, 6]", b"[10.5, NaN, 8.0, 6]"),
        ("annotations 0", "bbox"),
    ),
    (
        "box empty",
        json_with("instances.json", lambda v: v[A][1].update(bbox=[1, 2, 0, 4])),
        ("annotations 1", "empty"),
    ),
    (
        "box outside",
        json_with("instances.json", lambda v: v[A][1].update(bbox=[1, 2, 90, 4])),
        ("annotations 1", "40 x 30"),
    ),
    ("no bbox", json_with("instances.json", lambda v: v[A][1].pop("bbox")), ("annotations 1", "'bbox'")),
]


def named(cases: Cases) -> list[Any]:
    return [pytest.param(spoil, parts, id=what) for what, spoil, parts in cases]


@pytest.mark.parametrize(("spoil", "parts"), named(COMVG_CASES))
def test_comvg(tmp_path: Path, spoil: Spoil, parts: tuple[str, ...]) -> None:
    check("comvg", tmp_path, {}, spoil, parts)


@pytest.mark.parametrize(("spoil", "parts"), named(REFCOCOG_CASES))
def test_refcocog(tmp_path: Path, spoil: Spoil, parts: tuple[str, ...]) -> None:
    check("refcocog", tmp_path, {}, spoil, parts)


def test_lists_nested_too_deep_to_be_shown(tmp_path: Path) -> None:
    deep = b"]" * 100_000 + b"a" * 99_999
    check(
        "refcocog",
        tmp_path,
        {},
        raw(REFS, b"](}(S'ref_id'\n" + deep + b"ue."),
        (REFS, "ref 0", "ref_id is [[["),
    )
