"""Probabilities in an evaluation: how right they are, and that rows keep the curve they are made by."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.python.evaluation.fake_scorers import ByPairs, items
from tests.python.evaluation.scored import record
from torchmetrics.functional.classification import binary_calibration_error

from discffusion import ConfigError, DatasetError, Scorer, compare, evaluate
from discffusion.evaluation import Report, reopen
from discffusion.evaluation.metrics import METRICS
from discffusion.evaluation.metrics.calibration_error import BINS
from discffusion.evaluation.record import Record
from discffusion.evaluation.store.files import recorded


@dataclass(frozen=True)
class Curve:
    """Of a calibration, what an evaluation asks for."""

    slope: float = 4.0
    offset: float = -2.0

    @property
    def digest(self) -> str:
        return f"{self.slope} {self.offset}"

    def probability(self, scores: Any) -> Any:
        return 1 / (1 + np.exp(-(self.slope * np.asarray(scores) + self.offset)))


class Calibrated(ByPairs):
    """With a calibration that leaves its scores as they are."""

    has_probability = True

    def __init__(self, curve: Curve | None = None, seed: int = 0, **told: Any) -> None:
        super().__init__(seed, **told)
        self.calibration = curve or Curve()


def drawn(n: int, per_image: int = 1) -> list[Record]:
    """A pair an item with its probability, which is too high by a tenth."""
    rng = np.random.default_rng(0)
    truth = rng.random(n) * 0.9
    return [
        record(
            f"{place:05}",
            [[p]],
            [[rng.random() < p]],
            images=(f"{place // per_image}.jpg",),
            probabilities=np.array([[p + 0.1]]),
        )
        for place, p in enumerate(truth)
    ]


def flat(records: list[Record]) -> tuple[np.ndarray, np.ndarray]:
    ordered = sorted(records, key=lambda one: one.key)
    p = np.concatenate([one.probabilities.ravel() for one in ordered if one.probabilities is not None])
    return p, np.concatenate([one.match.ravel() for one in ordered])


def test_errors_agree_with_torchmetrics_and_the_formula() -> None:
    records = drawn(900, 3)
    p, match = flat(records)
    found = METRICS["probability"](records)
    expected = binary_calibration_error(torch.tensor(p), torch.tensor(match.astype(int)), BINS, "l1")
    assert found["ece"].value == pytest.approx(expected.item(), abs=1e-6)
    assert found["ece"].value == pytest.approx(0.1, abs=0.04)
    assert found["brier"].value == pytest.approx(np.mean((p - match) ** 2))
    for value in found.values():
        assert value.low < value.value < value.high
        assert (value.n, value.groups) == (900, 300)
    # of a bin of ten, about 90 pairs: an error of a tenth is more than noise
    assert found["ece"].low > 0


def test_right_probabilities_have_an_error_that_may_be_none() -> None:
    right = [replace(one, probabilities=one.scores) for one in drawn(900)]
    assert METRICS["probability"](right)["ece"].low == 0


def test_by_hand() -> None:
    records = [
        record("a", [[2, 1]], [[1, 0]], images=("x",), probabilities=np.array([[0.95, 0.15]])),
        record("b", [[1, 2]], [[1, 0]], images=("x",), probabilities=np.array([[0.15, 0.95]])),
    ]
    found = METRICS["probability"].measure(records)
    # both bins hold a match and another: |0.95 - 0.5| and |0.15 - 0.5|
    assert found.values["ece"].value == pytest.approx((0.45 + 0.35) / 2)
    assert found.values["brier"].value == pytest.approx((0.05**2 + 0.15**2 + 0.85**2 + 0.95**2) / 4)
    assert found.values["ece"].ties == found.values["brier"].ties == 2
    # of one image group nothing is known of others
    for value in found.values.values():
        assert (value.low, value.high, value.method, value.groups) == (0, 1, "exact", 1)
    assert found.notes[1].endswith(
        "the share of matching pairs, 0.5, said of every pair has a brier score of 0.25"
    )


def test_what_has_no_probabilities_is_refused() -> None:
    known, unknown = drawn(2), record("other", [[1]], [[1]])
    with pytest.raises(ConfigError, match=r"no calibration; fit one by scorer\.calibrate\(items\)"):
        METRICS["probability"]([*known, unknown])
    one = replace(known[0], match=np.array([[True]]))
    with pytest.raises(ConfigError, match="probability: needs pairs that match and pairs that do not"):
        METRICS["probability"]([one])
    for wrong in (np.array([[1.5]]), np.array([[np.nan]]), np.array([0.5])):
        with pytest.raises(DatasetError, match="item 'a': its probabilities"):
            record("a", [[1]], [[1]], probabilities=wrong)


def test_a_report_has_the_diagram() -> None:
    records = drawn(400)
    report = Report.from_records(records, ["probability"], settings={})
    found = report.reliability()
    assert found.ece == pytest.approx(report["probability/ece"].value)
    assert found.brier == pytest.approx(report["probability/brier"].value)
    told = json.loads(report.to_json())["reliability"]
    assert sum(row["count"] for row in told) == 400
    assert [row["low"] for row in told] == pytest.approx(np.arange(10) / 10)
    p, match = flat(records)
    third = (p >= 0.3) & (p < 0.4)
    assert told[3]["predicted"] == pytest.approx(p[third].mean())
    assert told[3]["observed"] == pytest.approx(match[third].mean())
    assert told[0] == {"low": 0, "high": 0.1, "count": 0, "predicted": None, "observed": None}
    assert len(report.reliability(4, equal_mass=True).count) == 4
    without = Report.from_records([record("a", [[2, 1]], [[1, 0]])], ["accuracy"], settings={})
    assert "reliability" not in without.to_dict()
    with pytest.raises(ConfigError, match="no calibration, and so no probabilities"):
        without.reliability()


def test_the_picture() -> None:
    from matplotlib import pyplot

    report = Report.from_records(drawn(400), ["probability"], settings={})
    axes = report.plot_reliability()
    found = report.reliability()
    seen = found.count > 0
    diagonal, line = axes.get_lines()
    assert diagonal.get_xdata().tolist() == diagonal.get_ydata().tolist() == [0, 100]
    np.testing.assert_allclose(line.get_xdata(), 100 * found.predicted[seen])
    np.testing.assert_allclose(line.get_ydata(), 100 * found.observed[seen])
    (dots,) = axes.collections
    np.testing.assert_allclose(
        dots.get_sizes() / dots.get_sizes().max(), found.count[seen] / found.count.max()
    )
    assert report.plot_reliability(axes, 3) is axes
    pyplot.close("all")


def test_auto_takes_it_where_there_is_one() -> None:
    plain, report = evaluate(ByPairs(), items(6)), evaluate(Calibrated(), items(6))
    assert report.metrics == [*plain.metrics, "probability/ece", "probability/brier"]
    for one in report.records:
        assert one.probabilities is not None
        np.testing.assert_allclose(one.probabilities, Curve().probability(one.scores))
    assert all(one.probabilities is None for one in plain.records)
    assert "probability" not in plain.settings
    # the run is the same, for scores are
    assert report.settings["run"] == plain.settings["run"]
    assert {name: report.settings["probability"][name] for name in ("slope", "offset")} == {
        "slope": 4.0, "offset": -2.0
    }  # fmt: skip
    matching = [replace(one, match=np.ones((2, 2), bool)) for one in items(3)]
    assert evaluate(Calibrated(), matching).metrics == ["mean_score"]
    # two runs are compared by the rest
    assert compare(report, plain).difference == 0


def test_the_metric_is_refused_before_anything_is_scored() -> None:
    scorer = ByPairs()
    with pytest.raises(ConfigError, match="the metric probability needs a calibration"):
        evaluate(scorer, items(2), ["accuracy", "probability"])
    assert scorer.calls == []


@pytest.fixture(params=["jsonl", "parquet"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"rows.{request.param}"


def scores(path: Path) -> list[list[float]]:
    return [recorded(path)[0].scores(entry, "").tolist() for entry in _entries()]


def _entries() -> Any:
    from discffusion.evaluation.items import EvaluationItems

    return EvaluationItems(items(9), None)


def test_rows_keep_the_curve(rows: Path) -> None:
    report = evaluate(Calibrated(), items(9), output=rows)
    assert reopen(rows, items(9)) == report
    assert reopen(rows, items(9), ["probability"])["probability/ece"] == report["probability/ece"]
    before = rows.read_bytes()
    scorer = Calibrated()
    assert evaluate(scorer, items(9), output=rows) == report
    assert scorer.calls == [] and rows.read_bytes() == before


@pytest.mark.parametrize("done", [4, 9])
@pytest.mark.parametrize(("first", "second"), [(None, Curve()), (Curve(), Curve(2.0, 1.0)), (Curve(), None)])
def test_a_run_goes_on_with_another_curve(
    rows: Path, first: Curve | None, second: Curve | None, done: int
) -> None:
    """The rows that are there stay, and the file has the curve of the evaluation that ended last."""

    def scorer(curve: Curve | None) -> ByPairs:
        return ByPairs() if curve is None else Calibrated(curve)

    evaluate(scorer(first), items(done), output=rows)
    told = scores(rows)[:done]
    again = scorer(second)
    report = evaluate(again, items(9), output=rows, batch_items=1)
    assert sum(pairs for _, _, pairs in again.calls) == 4 * (9 - done)
    assert report == evaluate(scorer(second), items(9))
    assert reopen(rows, items(9)) == report
    assert scores(rows)[:done] == told
    assert ("probability/ece" in report) == (second is not None)
    assert [path.name for path in rows.parent.iterdir()] == [rows.name]
    if rows.suffix == ".jsonl":
        lines = [json.loads(line) for line in rows.read_text().splitlines()]
        assert len(lines) == 36 and len({line["run"] for line in lines}) == 1
        assert "settings" in lines[0]


def test_another_scorer_is_refused_whatever_the_curve(rows: Path) -> None:
    evaluate(Calibrated(), items(3), output=rows)
    before = rows.read_bytes()
    with pytest.raises(ConfigError, match="scorer config seed was 0 and is 1"):
        evaluate(Calibrated(Curve(1.0, 0.0), seed=1), items(3), output=rows)
    assert rows.read_bytes() == before


def test_a_scorers_own_probabilities(scorer: Scorer, tmp_path: Path) -> None:
    """Those of the report are those of the scorer; stages leave pairs without."""
    from tests.python.calibration.files import curve_alone
    from tests.python.training_items import item

    calibrated = scorer.with_calibration(curve_alone(scorer))
    given = [item(number) for number in range(3)]
    report = evaluate(calibrated, given, output=tmp_path / "rows.jsonl", progress=False)
    for one, own in zip(report.records, given, strict=True):
        assert one.probabilities is not None
        expected = calibrated.probability_matrix(own.images, own.texts)
        np.testing.assert_allclose(one.probabilities, expected, atol=1e-6)
    assert reopen(tmp_path / "rows.jsonl", given) == report
    assert "probability/ece" not in evaluate(calibrated, given, stages=(1, 2), progress=False)
    with pytest.raises(ConfigError, match="with stages there is no probability"):
        evaluate(calibrated, given, "probability", stages=(1, 2), progress=False)
