"""Options and roots that datasets cannot be opened with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.python.data.spoiling import build

from discffusion.data import load_dataset
from discffusion.errors import DatasetError


@pytest.mark.parametrize("name", ["comvg", "refcocog", "vqav2", "vqa_csv"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "no split 'dev'; there are: .*(eval|test|val)"),
        ({"split": 3}, "no split 3; there are:"),
        ({"subset": "colour"}, "no subset 'colour'; there are:"),
        ({"subset": ["object"]}, "no subset"),
        ({"fraction": 0}, "fraction is 0"),
        ({"fraction": 1.5}, "fraction is 1.5"),
        ({"fraction": "5%"}, "fraction is '5%'"),
        ({"fraction": float("nan")}, "fraction is nan"),
        ({"fraction": 1e-9}, "less than one item"),
        ({"image_root": "/none/such"}, "image_root"),
        ({"image_root": 7}, "image_root"),
        ({"shots": 5}, "unexpected keyword argument 'shots'"),
    ],
)
def test_bad_options(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    build(name, tmp_path)
    with pytest.raises(DatasetError, match=message):
        load_dataset(name, tmp_path, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("refcocog", {"seed": -1}, "seed is -1"),
        ("refcocog", {"seed": True}, "seed is True"),
        ("refcocog", {"n_texts": 1}, "n_texts is 1"),
        ("refcocog", {"mask": "box"}, "no mask 'box'; there are: object, rest"),
        ("refcocog", {"mask": True}, "no mask True"),
        ("refcocog", {"fill": "black"}, "no fill 'black'; there are: mean, grey"),
        ("refcocog", {"split_by": "unc"}, "no split_by 'unc'; there are: umd, google"),
        ("vqav2", {"candidates": 1}, "candidates is 1"),
        ("vqav2", {"seed": 0.5}, "seed is 0.5"),
        ("vqav2", {"answers": "none.json"}, "there is no file 'none.json'"),
        ("vqav2", {"answers": ["yes"]}, "holds 1 answers"),
        ("vqav2", {"answers": ["yes", 3]}, "answer 1 is int"),
        ("vqav2", {"answers": ["yes", "no", "yes"]}, "answer 2: 'yes' occurs twice"),
        ("vqav2", {"answers": 7}, "answers is int"),
        ("vqa_csv", {"layout": "text"}, "no layout 'text'; there are: texts, images"),
        ("vqa_csv", {"leaky": "no"}, "leaky is 'no'"),
        ("vqa_csv", {"seed": "a"}, "seed is 'a'"),
    ],
)
def test_bad_options_of_one(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    build(name, tmp_path)
    with pytest.raises(DatasetError, match=message):
        load_dataset(name, tmp_path, **options)


@pytest.mark.parametrize("name", ["comvg", "refcocog", "vqav2", "vqa_csv"])
@pytest.mark.parametrize(
    ("root", "message"), [(None, "needs root="), ("/none/such", "does not exist"), (7, "root is 7")]
)
def test_bad_roots(name: str, root: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=f"{name}.*{message}|{message}"):
        load_dataset(name, root)
