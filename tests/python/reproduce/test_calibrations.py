"""Calibrations of the tables: kept, told from each other, and beside what few-shot training gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.reproduce.made_up import TINY

from discffusion import Scorer
from discffusion._identity import identity
from discffusion.reproduce import reproduce
from discffusion.reproduce.calibrations import ATTENTION, EVERYTHING, STEPS, Calibrated
from discffusion.reproduce.columns import COMPOSITION
from discffusion.reproduce.methods import Method, TableRow, ours
from discffusion.reproduce.result import Row
from discffusion.reproduce.runner import ExperimentRunner, LacksDataError
from discffusion.reproduce.tabulate import measured_row
from discffusion.reproduce.trainings import FEW

SHAPES = (("shapes", None),)
FOUR = replace(TINY, shots={**TINY.shots, "few": 12})  # of which referring has a third


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    with Scorer(device="cpu", truncate="silent") as made:
        yield made


def runner(scorer: Scorer, folder: Path, seeds: int = 1) -> ExperimentRunner:
    return ExperimentRunner(scorer, SHAPES, TINY, range(seeds), folder)


def rows_in(folder: Path) -> set[str]:
    return {path.name for path in (folder / "rows").glob("*.jsonl")}


def kept(folder: Path) -> set[str]:
    return {path.name for path in (folder / "calibrations").glob("*.safetensors")}


def test_a_row_is_of_the_calibration_that_it_names(scorer: Scorer, tmp_path: Path) -> None:
    """Scores of a row are those of the calibration; another calibration, seed or deltas has other rows."""
    own = runner(scorer, tmp_path, seeds=2)
    lines = {  # of two timesteps, to be quick
        "zero-shot": ours("a", steps=2),
        "attention": ours("b", calibration=ATTENTION, steps=2),
        "steps": ours("c", calibration=STEPS, steps=2),
        "trained": ours("d", recipe=FEW, calibration=STEPS, steps=2),
        "everything": ours("e", "denoising", calibration=EVERYTHING, steps=2),
    }
    made = {name: measured_row(own, line, COMPOSITION) for name, line in lines.items()}
    assert all(row.cells and not row.absent for row in made.values())
    assert len(own.calibrations) == len(kept(tmp_path)) == 4 * 2
    for key, found in own.calibrations.items():
        assert isinstance(found, Calibrated)
        deltas = None if key.training is None else own.trained(key.training, "composition", key.seed).deltas
        assert found.calibration.scorer["deltas"] == (None if deltas is None else deltas.digest())
        assert (key.recipe is EVERYTHING) == (key.score == "denoising, steps=2")
    identities = set()
    for name, line in lines.items():
        for seed in (0, 1):
            assert line.method is not None
            of_row = line.method.make(own, "composition", seed)
            assert of_row.config.seed == seed
            assert of_row.has_probability == (name != "zero-shot")
            identities.add(json.dumps(identity(of_row.describe()), sort_keys=True))
            item = own.source("composition").test()[0]
            record = next(r for r in made[name].records["All"][seed] if r.key == item.key)
            np.testing.assert_allclose(
                record.scores, of_row.matrix(item.images, item.texts), rtol=1e-5, atol=1e-6
            )
    assert len(rows_in(tmp_path)) == len(identities)


def test_a_calibration_is_fitted_once(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = runner(scorer, tmp_path)
    first.calibrated(STEPS, "composition", 0)
    (found,) = first.calibrations.values()
    assert found.items == TINY.shots["few"]
    assert found.calibration.report["items"] == found.items
    assert found.seconds > 0

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("this was done before")

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "calibrate", refuse)
        again = runner(scorer, tmp_path)
        again.calibrated(STEPS, "composition", 0)
        (read,) = again.calibrations.values()
        assert read.calibration.digest == found.calibration.digest
        assert read.seconds == pytest.approx(found.seconds, abs=0.001)
        for other in ({"seed": 1}, {"seed": 0, "steps": 2}, {"seed": 0, "training": FEW}):
            with pytest.raises(AssertionError, match="done before"):
                again.calibrated(STEPS, "composition", **other)
        with pytest.raises(AssertionError, match="done before"):
            again.calibrated(ATTENTION, "composition", 0)


def test_a_damaged_file_is_fitted_anew(scorer: Scorer, tmp_path: Path) -> None:
    runner(scorer, tmp_path).calibrated(STEPS, "composition", 0)
    (path,) = (tmp_path / "calibrations").glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    runner(scorer, tmp_path).calibrated(STEPS, "composition", 0)
    assert path.read_bytes() == whole


def test_too_few_labels_are_told(scorer: Scorer, tmp_path: Path) -> None:
    """Of referring the smallest scale has two items; the row says so, and the others are measured."""
    own = runner(scorer, tmp_path)
    with pytest.raises(LacksDataError, match="2 of 2 items have a matching pair.*4 or more are needed"):
        own.calibrated(ATTENTION, "referring", 0)
    assert own.calibrations == {}


def test_timesteps_are_those_of_the_row(scorer: Scorer, tmp_path: Path) -> None:
    """A row of two timesteps never takes more, whatever the calibration chose."""
    own = runner(scorer, tmp_path)
    before = own.scorer("attention", 0, steps=2).describe()["timesteps"]
    after = own.calibrated(ATTENTION, "composition", 0, steps=2).describe()["timesteps"]
    assert set(after) <= set(before)


def told(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], Method]:
    """What a table would measure, by label and variant."""
    found: dict[tuple[str, str], Method] = {}

    def row(_: Any, line: TableRow, __: Any) -> Row:
        if line.method is not None:
            assert (line.label, line.variant) not in found
            found[line.label, line.variant] = line.method
        return Row(line.label, line.variant, absent={"*": "not measured"})

    monkeypatch.setattr("discffusion.reproduce.tabulate.measured_row", row)
    reproduce([name], scale=TINY)
    return found


def test_calibrated_rows_stand_beside_trained_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    table1 = told("table1", monkeypatch)
    for label, about in {
        "Zero-shot: Discffusion, text prior": "attention score with prior=null, zero-shot",
        "Few-shot: Discffusion": "attention score, few-shot",
        "Few-shot: Discffusion, calibrated": "attention score, zero-shot, calibrated",
        "Few-shot: Discffusion, trained and calibrated": "attention score, few-shot, calibrated",
    }.items():
        assert table1[label, "attention"].about == about
        assert table1[label, "attention"].places is None
    both = table1["Few-shot: Discffusion, trained and calibrated with the denoising error", "denoising"]
    assert both.about == "denoising score, few-shot, calibrated with the denoising error"
    for variant, training in (("attention", "few-shot"), ("paper", "few-shot, as printed")):
        table3 = told("table3", monkeypatch)
        assert table3["LogSumExp, text prior", variant].about == f"{variant} score with prior=null, zero-shot"
        assert table3["Few-shot training", variant].about == f"{variant} score, {training}"
        assert table3["Calibration", variant].about == f"{variant} score, zero-shot, calibrated"
        trained = table3["Few-shot training and calibration", variant]
        assert trained.about == f"{variant} score, {training}, calibrated"


@pytest.fixture(scope="module")
def reproduced(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[Any, Row]]:
    folder = tmp_path_factory.mktemp("reproduced")
    results = reproduce(["table1", "figure3", "figure5"], scorer, scale=FOUR, output=folder)
    for name in ("figure3.png", "figure5.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert "## Calibrations" in (folder / "report.md").read_text(encoding="utf-8")
    return {result.name: {(row.label, row.variant): row for row in result.rows} for result in results}


@pytest.mark.slow
def test_table_1_has_prior_and_calibration_beside_training(reproduced: dict[str, dict[Any, Row]]) -> None:
    rows = reproduced["table1"]
    alone = {"All", "Top-1 Acc.", "VQA All"}
    for label in (
        "Zero-shot: Discffusion, text prior",
        "Few-shot: Discffusion",
        "Few-shot: Discffusion, calibrated",
        "Few-shot: Discffusion, trained and calibrated",
    ):
        assert alone <= rows[label, "attention"].cells.keys()
    for label in ("calibrated with the denoising error", "trained and calibrated with the denoising error"):
        row = rows[f"Few-shot: Discffusion, {label}", "denoising"]
        assert "All" in row.cells
        assert "the variant denoising is measured on" in row.absent["VQA All"]  # at this scale
    plain = rows["Zero-shot: Discffusion", "attention"].records["Top-1 Acc."][0]
    prior = rows["Zero-shot: Discffusion, text prior", "attention"].records["Top-1 Acc."][0]
    # one image, so what is subtracted differs from text to text
    assert all(np.ptp(a.scores - b.scores) > 0 for a, b in zip(plain, prior, strict=True))


@pytest.mark.slow
def test_figures_have_curves_of_prior_and_calibration(reproduced: dict[str, dict[Any, Row]]) -> None:
    for name in ("the last layer", "all layers"):
        for more in ("text prior", "few-shot", "timesteps calibrated"):
            assert reproduced["figure3"][f"{name}, {more}", "attention"].cells
    assert reproduced["figure3"]["layers and heads weighed", "attention"].cells
    for count in ("1 timestep", "2 timesteps"):
        for more in ("zero-shot", "zero-shot, text prior", "calibrated", "trained and calibrated"):
            assert reproduced["figure5"][f"{count}, {more}", "attention"].cells
