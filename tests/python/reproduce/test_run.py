"""Tables and figures end to end on the pocket model, with as little of everything as there can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.reproduce.made_up import TINY

from discffusion.reproduce import reproduce
from discffusion.reproduce.result import FAILS, HOLDS, IN_PART, NOT_MEASURED, UNDECIDED, Result

ANSWERS = {HOLDS, FAILS, UNDECIDED, NOT_MEASURED, IN_PART}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduced")


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Result]:
    names = ["table3", "table5", "table8", "table9", "table12", "figure4", "figure6", "figure8"]
    return {result.name: result for result in reproduce(names, scale=TINY, output=folder)}


def facts(results: Any) -> Any:
    """What a report says but for times."""
    if isinstance(results, dict):
        return {key: facts(value) for key, value in results.items() if key != "seconds"}
    return [facts(value) for value in results] if isinstance(results, list) else results


def test_every_printed_row_and_column_is_there(results: dict[str, Result]) -> None:
    for result in results.values():
        if result.printed is None or result.gap:
            continue
        assert set(result.printed.rows) <= {row.label for row in result.rows}
        assert set(result.printed.columns) <= set(result.columns)
        for row in result.rows:
            assert row.cells.keys() | row.absent.keys() >= set(result.printed.columns)


def test_values_have_intervals_seeds_and_times(results: dict[str, Result]) -> None:
    for result in results.values():
        for row in result.rows:
            assert row.cells
            for cell in row.cells.values():
                value = cell.estimate
                assert 0 <= value.low <= value.value <= value.high <= 1
                assert value.high > value.low
                assert cell.seeds == pytest.approx([value.value])
            assert row.seeds == (0,)
            assert row.seconds > 0 or "single heads" in row.about
        assert all(verdict.answer in ANSWERS for verdict in result.verdicts)
        assert result.gap or result.seconds > 0


def test_both_variants_are_measured_where_the_score_is_the_subject(results: dict[str, Result]) -> None:
    for label in ("LogSumExp", "Noise level 0.8"):
        assert [row.variant for row in results["table3"].rows if row.label == label] == ["attention", "paper"]
    assert {verdict.variant for verdict in results["table3"].verdicts} == {"attention", "paper"}


def test_the_first_and_last_timestep_are_those_of_the_schedule(results: dict[str, Result]) -> None:
    assert "attention: 10 timesteps, the first 650, the last 290" in results["table9"].notes
    assert "paper: 2 timesteps, the first 999, the last 499" in results["table9"].notes


def test_figure_6_says_why_its_curve_is_of_another_model(results: dict[str, Result]) -> None:
    (note,) = [note for note in results["figure6"].notes if "latent consistency model" in note]
    assert "none comes with the package" in note and "supported" not in note
    (verdict,) = results["figure6"].verdicts
    assert "too few steps for an interval" in verdict.detail and verdict.answer == UNDECIDED


def test_what_differs_from_the_paper_is_said(results: dict[str, Result]) -> None:
    told = " ".join(results["table3"].differences)
    assert "pocket model stands for Stable Diffusion 2.1-base" in told
    assert "shapes) stand for ComVG" in told
    assert "the variant paper has 2 timesteps, not 50" in told
    assert "2 timesteps" not in " ".join(results["table8"].differences)  # no such row there


def test_pictures_are_judged_before_and_after_training(results: dict[str, Result]) -> None:
    rows = {row.label: row for row in results["table12"].rows}
    assert list(rows) == ["Stable Diffusion", "Discffusion", "the drawings themselves"]
    assert {cell.estimate.n for row in rows.values() for cell in row.cells.values()} == {3}
    assert rows["the drawings themselves"].cells["shapes: both"].estimate.value == 1
    (verdict,) = results["table12"].verdicts
    assert "shapes: both" in verdict.detail


def test_heads_averaged_afterwards_are_heads_averaged_by_the_score(results: dict[str, Result]) -> None:
    """The mean of single heads is the attention score, and the weighted mean that with learned weights."""
    rows = {row.label: row for row in results["figure4"].rows}
    table = {(row.label, row.variant): row for row in results["table9"].rows}
    pairs = [
        ("4 of 4 heads, plain mean", table["Discffusion", "attention"]),
        ("4 of 4 heads, learned weights", rows["all heads, weights found in training (learned)"]),
    ]
    for label, other in pairs:
        for made, scored in zip(
            rows[label].records["All"][0],
            other.records["Average" if "Average" in other.records else "All"][0],
            strict=True,
        ):
            np.testing.assert_allclose(made.scores, scored.scores, rtol=1e-5)
    assert rows["2 of 4 heads, plain mean"].cells["All"].estimate.n == 6 * 4
    assert [v.claim for v in results["figure4"].verdicts] == [
        "Weighting heads beats their plain mean",
        "All heads are best",
    ]


def test_the_report(results: dict[str, Result], folder: Path) -> None:
    told = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert [of["name"] for of in told["results"]] == list(results)
    assert told["model"] == "pocket"
    assert told["seeds"] == [0]
    names = {(of["recipe"], of["data"]) for of in told["trainings"]}
    assert ("few-shot", "composition") in names
    assert ("few-shot", "referring") in names
    assert len(told["trainings"]) == len(names)  # each once
    made = [(of["recipe"], of["score"], of["training"], of["data"]) for of in told["calibrations"]]
    assert len(made) == len(set(made))
    for training in (None, "few-shot"):  # of Table 3 and of Figure 4
        assert ("calibrated", "attention", training, "composition") in made
    assert all(of["items"] == TINY.shots["few"] and 0 <= of["ece"] <= 1 for of in told["calibrations"])
    text = (folder / "report.md").read_text(encoding="utf-8")
    for name in ("figure4.png", "figure6.png", "figure8.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
        assert f"({name})" in text
    assert "## Table 5" in text
    assert "no latent consistency model to measure" in text


def test_the_same_run_again_scores_and_trains_nothing(
    results: dict[str, Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("this was done before")

    monkeypatch.setattr("discffusion.evaluation.scoring.Scoring.score", refuse)
    monkeypatch.setattr("discffusion.trainer.Trainer.fit", refuse)
    monkeypatch.setattr("discffusion.scorer.Scorer.calibrate", refuse)
    again = reproduce(["table9", "table3", "figure4"], scale=TINY, output=folder)
    for result in again:
        assert facts(result.to_dict()) == facts(results[result.name].to_dict())
        before = {(row.label, row.variant): row.seconds for row in results[result.name].rows}
        assert {(row.label, row.variant): row.seconds for row in result.rows} == pytest.approx(
            before, abs=0.01
        )


def test_an_interrupted_run_goes_on(
    results: dict[str, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from discffusion.evaluation.scoring import Scoring

    score, calls = Scoring.score, 0

    def interrupted(self: Scoring, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise KeyboardInterrupt
        return score(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Scoring, "score", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reproduce(["table3"], scale=TINY, output=tmp_path)
    assert 0 < len(list((tmp_path / "rows").glob("*.jsonl"))) < len(results["table3"].rows)
    (result,) = reproduce(["table3"], scale=TINY, output=tmp_path)
    assert facts(result.to_dict()) == facts(results["table3"].to_dict())
