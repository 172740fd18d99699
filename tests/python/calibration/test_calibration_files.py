"""A calibration as a file: the same after reading, and refused where it is damaged or something else."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.python.calibration.made import REPORT, made, of_probability, weights_of

from discffusion import ConfigError, DiscffusionError, Scorer, Trainer
from discffusion._safetensors import pack, unpack
from discffusion.calibration import Calibration


@pytest.fixture
def file(scorer: Scorer, tmp_path: Path) -> Path:
    made(scorer).save(tmp_path / "calibration.safetensors")
    return tmp_path / "calibration.safetensors"


def same(one: Calibration, other: Calibration) -> bool:
    return one.to_bytes() == other.to_bytes() and one.digest == other.digest


@pytest.mark.parametrize(("map", "error"), [("logits", True), ("cosine", False), (None, True)])
def test_it_is_the_same_after_reading(scorer: Scorer, tmp_path: Path, map: str | None, error: bool) -> None:
    before = made(scorer, weights_of(scorer, map=map, error=error))
    before.save(tmp_path / "one")
    after = Calibration.load(str(tmp_path / "one"))
    assert same(before, after)
    assert after.config == before.config
    assert after.before == scorer.config
    assert (after.weights.levels, after.weights.layers) == (before.weights.levels, before.weights.layers)
    for name in ("attention", "error"):
        np.testing.assert_array_equal(getattr(after.weights, name), getattr(before.weights, name))
    assert str(after) == str(before)


def test_one_that_leaves_the_score_as_it_is(scorer: Scorer, tmp_path: Path) -> None:
    before = of_probability(scorer)
    before.save(tmp_path / "one")
    after = Calibration.load(tmp_path / "one")
    assert same(before, after)
    assert after.weights is None
    assert after.config == scorer.config
    assert repr(after) == "Calibration('baseline', the score as it is)"
    assert of_probability(scorer, slope=3.0).digest != before.digest
    with pytest.raises(ConfigError, match="the method 'calibrated' needs weights"):
        of_probability(scorer, config=made(scorer).config)


def test_copies_are_itself_and_pickles_are_the_same(scorer: Scorer) -> None:
    calibration = made(scorer)
    assert copy.copy(calibration) is calibration is copy.deepcopy([calibration])[0]
    assert same(pickle.loads(pickle.dumps(calibration)), calibration)


def test_the_digest_is_of_what_scores_and_probabilities_depend_on(scorer: Scorer) -> None:
    calibration = made(scorer)
    for other in (
        made(scorer, slope=3.0),
        made(scorer, offset=0.0),
        made(scorer, weights_of(scorer, seed=1)),
    ):
        assert other.digest != calibration.digest
    assert made(scorer, report={**REPORT, "seed": 1}).digest == calibration.digest


def test_other_programs_read_it(scorer: Scorer, file: Path) -> None:
    arrays = load_file(file)
    assert set(arrays) == {"attention", "error"}
    np.testing.assert_array_equal(arrays["attention"], made(scorer).weights.attention)


def test_every_damaged_byte_is_found(file: Path) -> None:
    whole = file.read_bytes()
    for place in [*range(10), *range(10, len(whole), len(whole) // 60), len(whole) - 1]:
        for bit in (1, 64):
            damaged = bytearray(whole)
            damaged[place] ^= bit
            with pytest.raises(ConfigError, match="is no calibration|is damaged|has the format"):
                Calibration.from_bytes(bytes(damaged))


@pytest.mark.parametrize("length", [0, 5, 8, 100, -1])
def test_a_file_that_was_cut_off(file: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ConfigError, match=r"calibration\.safetensors: is no calibration: .*cut off"):
        Calibration.load(file)


def test_more_than_there_was(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ConfigError, match="more data"):
        Calibration.load(file)


def test_something_else(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        Calibration.load(tmp_path / "missing")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        Calibration.load(tmp_path)
    with pytest.raises(ConfigError, match="from a path, not int"):
        Calibration.load(3)  # type: ignore[arg-type]
    (tmp_path / "text").write_text("a calibration\n" * 10)
    with pytest.raises(ConfigError, match="no safetensors file"):
        Calibration.load(tmp_path / "text")
    Trainer(scorer, rank=2).save(tmp_path / "deltas")
    with pytest.raises(ConfigError, match="is no calibration: the array .* is not of float64"):
        Calibration.load(tmp_path / "deltas")
    save_file({"error": np.zeros(2)}, tmp_path / "numbers")
    with pytest.raises(
        ConfigError, match=r"is no calibration: its metadata has no 'discffusion_calibration'"
    ):
        Calibration.load(tmp_path / "numbers")


def test_a_newer_format(file: Path) -> None:
    arrays, metadata = unpack(file.read_bytes())
    file.write_bytes(pack(arrays, {**metadata, "discffusion_calibration": "2"}))
    with pytest.raises(ConfigError, match="has the format '2'; this release reads '1'"):
        Calibration.load(file)


def test_a_file_that_cannot_be_written(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(DiscffusionError, match="cannot be written"):
        made(scorer).save(tmp_path / "missing" / "one")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slope": 0.0}, "slope above 0"),
        ({"offset": float("nan")}, "offset is nan"),
        ({"fields": {"map": "probs"}}, "map of the configuration is 'probs'; the weights need 'logits'"),
        ({"fields": {"noise_levels": [0.5]}}, "noise_levels of the configuration"),
        ({"fields": {"layers": "all"}}, "layers of the configuration"),
        ({"fields": {"method": "attention"}}, "method of the configuration is 'attention'"),
        ({"fields": {"prior": "null"}}, "prior of the configuration is 'null'; the weights need None"),
    ],
)
def test_parts_belong_together(scorer: Scorer, changes: dict[str, Any], message: str) -> None:
    changes = dict(changes)
    if "fields" in changes:
        changes["config"] = made(scorer).config.replace(**changes.pop("fields"))
    with pytest.raises(ConfigError, match=message):
        made(scorer, **changes)


def test_it_says_what_it_is_worth(scorer: Scorer) -> None:
    calibration = made(scorer)
    text = str(calibration)
    assert "| accuracy after          | 75.00% [50.00%, 87.50%]" in text
    assert "4 items, 8 comparisons (a \\| b)" in text
    (chosen,) = [line for line in text.splitlines() if "| yes" in line]
    assert "layers, pruned" in chosen
    assert "| accuracy before, images | 75.00%" in text
    assert "| measured on" in text and "the same, by cross-validation" in text
    assert repr(calibration) == "Calibration('layers', map='logits', 2 layers, error, 2 steps)"


def test_probabilities_are_a_rising_curve(scorer: Scorer) -> None:
    calibration = made(scorer)
    scores = np.linspace(-1e3, 1e3, 101)
    probability = calibration.probability(scores)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert (np.diff(probability) >= 0).all()
    assert calibration.probability(0.25) == pytest.approx(0.5)
    assert calibration.probability(1.0) == pytest.approx(1 / (1 + np.exp(-1.5)))


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F64", "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F64", "shape": [-1], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F64", "shape": [1], "data_offsets": [8, 16]}},
        {"a": {"dtype": "F64", "shape": [1.0], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F64", "shape": [1], "data_offsets": [0]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}},
        {"a": []},
        {"__metadata__": {"a": 1}},
        {"__metadata__": []},
        [],
        "a",
    ],
    ids=str,
)
def test_headers_that_cannot_be(header: Any) -> None:
    text = json.dumps(header).encode()
    with pytest.raises(ValueError, match="array|header"):
        unpack(len(text).to_bytes(8, "little") + text + bytes(8))
