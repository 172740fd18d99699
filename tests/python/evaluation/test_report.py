"""A report: what it holds, how it reads, and when two are equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from tests.python.evaluation.scored import EXAMPLES, record

from discffusion import ConfigError, InstallationError, ScoreConfig
from discffusion.evaluation.record import Record
from discffusion.evaluation.report import Report

mpl.use("agg")


def scored() -> list[Record]:
    """Four items of two groups: three won, one tied."""
    return [
        record(
            f"k{index}",
            [[score], [0.5]],
            [[1], [0]],
            group=group,
            images=(f"{index}.jpg", "other.jpg"),
            texts=("a | b",),
        )
        for index, (score, group) in enumerate([(1, "object"), (0.5, "object"), (2, "verb"), (3, "verb")])
    ]


def report(**changes: Any) -> Report:
    options: dict[str, Any] = {"settings": {"dataset": "comvg", "scorer": {"model": "m"}}} | changes
    records = options.pop("records", scored())
    return Report.from_records(records, options.pop("metrics", ["accuracy", "acc@1"]), **options)


def test_values_are_found_by_name_and_by_group() -> None:
    found = report()
    assert found.metrics == ["accuracy", "acc@1"]
    assert found["accuracy"].value == 0.75 and found["accuracy"].ties == 1
    assert {group: value.value for group, value in found.group("acc@1").items()} == {"object": 0.5, "verb": 1}
    assert "accuracy" in found and "winoground/text" not in found
    assert (found.n_expected, found.n_scored, found.missing, found.rows_path) == (4, 4, (), None)
    for ask in (lambda: found["nope"], lambda: found.group("nope")):
        with pytest.raises(ConfigError, match="the report has no 'nope'; it has: accuracy, acc@1"):
            ask()


def test_values_of_one_metric_are_named_after_it() -> None:
    rng = np.random.default_rng(0)
    records = EXAMPLES["winoground"](lambda shape, _: rng.random(shape))
    found = report(records=records, metrics=["winoground", "calibration"])
    assert found.metrics == [
        *("winoground/text", "winoground/image", "winoground/group"),
        *("calibration/auroc", "calibration/ece", "calibration/brier"),
    ]
    assert set(found.group("winoground/group")) == {"Object", "Relation"}
    assert found.group("calibration/auroc") == {}
    assert any(note.startswith("calibration: p(match) = 1 / (1 + exp(") for note in found.notes)


def test_a_metric_that_applies_to_no_part_has_no_groups_there() -> None:
    wide = record("wide", [[2, 1, 0]], [[1, 0, 0]], group="wide")
    single = record("single", [[1]], [[1]], group="single")
    found = report(records=[wide, single], metrics=["acc@1"])
    assert list(found.group("acc@1")) == ["wide"]
    with pytest.raises(ConfigError, match="acc@1"):
        report(records=[single], metrics=["acc@1"])


def test_the_table_is_markdown_in_percent() -> None:
    found = report(n_expected=6, missing=["a.jpg", "b.jpg", "c.jpg", "d.jpg"], notes=["the positives leak"])
    lines = found.table().splitlines()
    assert lines[0] == "comvg: 4 of 6 items scored; 4 images missing (a.jpg, b.jpg, c.jpg and 1 more)"
    assert lines[1:3] == ["scored by m", ""]
    assert lines[3].split("|")[1:-1] == [cell.ljust(len(cell)) for cell in lines[3].split("|")[1:-1]]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[3:11]]
    assert cells[0] == ["metric", "group", "value %", "95 % interval", "n", "ties", "interval by"]
    # Clopper and Pearson's interval of 3 of 4, as scipy's binomtest(3, 4).proportion_ci() gives it
    assert cells[2] == ["accuracy", "all", "75.00", "19.41 to 99.37", "4", "1", "exact"]
    assert [row[:3] for row in cells[3:]] == [
        ["accuracy", "object", "50.00"],
        ["accuracy", "verb", "100.00"],
        ["acc@1", "all", "75.00"],
        ["acc@1", "object", "50.00"],
        ["acc@1", "verb", "100.00"],
    ]
    assert lines[-1] == "- the positives leak"
    assert str(found) == found.table()
    assert len({len(line) for line in lines[3:11]}) == 1


def test_the_table_says_what_was_scored_with() -> None:
    def second_line(**scorer: object) -> str:
        found = report(settings={"dataset": "comvg", "model": "a/model", "scorer": scorer})
        line = found.table().splitlines()[1]
        assert f"<br>{line}</p>" in found._repr_html_()
        return line

    preset = ScoreConfig.preset("release")
    assert (
        second_line(config=preset.to_dict(), dtype="float32") == "scored by a/model, preset release, float32"
    )
    changed = preset.replace(layers="up", batch_size=3, truncate="warn")
    assert second_line(config=changed.to_dict()) == "scored by a/model, preset release, layers=up"
    deltas = second_line(
        config=ScoreConfig.preset("paper").to_dict(), deltas="0123456789abcdef0123", dtype="float16"
    )
    assert deltas == "scored by a/model, preset paper, deltas 0123456789abcdef, float16"
    clip = second_line(baseline="clip", config={"score": "cosine", "truncate": "warn"}, dtype="float32")
    assert clip == "scored by clip (a/model), score=cosine, truncate=warn, float32"
    nothing = report(settings={"dataset": "comvg"})
    assert nothing.table().splitlines()[1] == "" and "scored by" not in nothing._repr_html_()


def test_a_single_group_is_not_said_twice() -> None:
    records = [record(f"{i}", [[i, 1]], [[1, 0]], group="only") for i in range(4)]
    found = report(records=records, metrics=["accuracy"])
    assert "only" not in found.table() and found.table().count("accuracy") == 1
    assert found.group("accuracy") == {"only": found["accuracy"]}
    records.append(record("4", [[1, 1]], [[1, 0]]))
    assert "only" in report(records=records, metrics=["accuracy"]).table()


def test_the_table_names_image_groups_and_escapes_bars() -> None:
    records = [
        record(f"{i}", [[i % 3, 1]], [[1, 0]], group="a|b" if i else "c", images=(f"{i // 2}",))
        for i in range(8)
    ]
    text = report(records=records, metrics=["accuracy"]).table()
    assert "t, 4 image groups" in text and "a\\|b" in text


def test_html_is_escaped() -> None:
    text = report(notes=["<script>"], settings={"dataset": "a<b"})._repr_html_()
    assert "<script>" not in text and "&lt;script&gt;" in text and "a&lt;b" in text
    assert text.count("<tr>") == 7 and text.count("</td>") == 6 * 7


def test_repr_is_one_line() -> None:
    assert repr(report()) == (
        "Report(4 of 4 items: accuracy 75.00% [19.41%, 99.37%], acc@1 75.00% [19.41%, 99.37%])"
    )


def test_reports_are_equal_by_numbers_and_settings() -> None:
    one = report()
    assert one == report(records=scored()[::-1], rows_path="elsewhere.jsonl")
    assert one != report(settings={"dataset": "comvg", "scorer": {"model": "n"}})
    assert one != report(n_expected=5)
    assert one != report(metrics=["accuracy"])
    assert one != report(missing=["x"])
    better = [*scored()[:1], record("k1", [[1], [0.5]], [[1], [0]], group="object"), *scored()[2:]]
    assert one != report(records=better)
    assert one != "a report"
    with pytest.raises(TypeError):
        hash(one)


def test_json_holds_everything(tmp_path: Path) -> None:
    found = report(rows_path=tmp_path / "rows.jsonl", notes=["größer"])
    path = tmp_path / "report.json"
    text = found.to_json(path)
    assert path.read_text(encoding="utf-8") == text and "größer" in text
    back = json.loads(text)
    assert back == found.to_dict()
    ends = {"low": found["accuracy"].low, "high": found["accuracy"].high}
    counts = {"n": 4, "ties": 1, "groups": 4}
    assert back["values"][0] == {
        "metric": "accuracy",
        "group": None,
        "value": 0.75,
        "method": "exact",
        "unit": "share",
        **ends,
        **counts,
    }
    assert back["rows_path"].endswith("rows.jsonl") and back["settings"]["dataset"] == "comvg"


def test_a_data_frame_has_a_row_per_value_and_group() -> None:
    frame = report().to_pandas()
    columns = ["metric", "group", "value", "low", "high", "n", "ties", "method", "groups", "unit"]
    assert list(frame.columns) == columns
    assert frame["value"].tolist() == [0.75, 0.5, 1, 0.75, 0.5, 1]
    assert frame["group"].isna().tolist() == [True, False, False] * 2


def test_a_plot_gives_its_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "show", lambda *_: pytest.fail("shown"))
    axes = report().plot()
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["accuracy", "accuracy, object"]
    point, _, bars = axes.containers[0]
    assert point.get_xdata().tolist() == [75]
    low, high = bars[0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx((19.412, 99.369), abs=1e-3)
    mine = pyplot.figure().subplots()
    assert report().plot(mine) is mine
    pyplot.close("all")


@pytest.mark.parametrize(("method", "module"), [("plot", "matplotlib.pyplot"), ("to_pandas", "pandas")])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, method: str, module: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(InstallationError, match=f"{module.partition('.')[0]} is needed here"):
        getattr(report(), method)()


def test_settings_and_records_are_its_own() -> None:
    settings = {"dataset": "x"}
    found = report(settings=settings)
    settings["dataset"] = "y"
    assert found.settings == {"dataset": "x"}
    assert [one.key for one in report(records=scored()[::-1]).records] == ["k0", "k1", "k2", "k3"]


def test_unknown_metrics_and_no_records_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown metric 'auto'"):
        report(metrics=["auto"])
    with pytest.raises(ConfigError, match="no scored items"):
        report(records=[])
