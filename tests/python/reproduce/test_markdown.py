"""What a reader sees."""

from __future__ import annotations

from typing import Any

from tests.python.reproduce.made_up import row

from discffusion.evaluation.estimate import Estimate
from discffusion.reproduce.markdown import section, table
from discffusion.reproduce.paper_table import PaperTable
from discffusion.reproduce.report import markdown
from discffusion.reproduce.result import FAILS, HOLDS, Result, Row, Verdict

PRINTED = PaperTable(("All", "Top"), {"a": (78.9, 80.0), "b": (None, 43.25)}, notes=("A note of the paper.",))


def made() -> Result:
    measured = row("a", {0: [True] * 8 + [False] * 2, 1: [True] * 6 + [False] * 4}, "attention")
    missing = Row("b", "", absent={"*": "no weights"})
    plain = row("own", [True, False])
    lacking = Row("a", "paper", plain.cells, plain.records, {"Top": "no data for it"})
    return Result(
        "table3", "How", PRINTED, ("All", "Top"), [measured, lacking, missing, plain],
        [Verdict("a beats b", FAILS, "a − b: -1.0", "attention"), Verdict("c", HOLDS)],
        notes=["A note."], differences=["the model is small"], seconds=2.4,
    )  # fmt: skip


def estimate(value: float) -> dict[str, Any]:
    return Estimate(value, value - 0.05, value + 0.05, 80, 0, "bootstrap", 40).to_dict()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_papers_figures_stand_above_the_measured_ones() -> None:
    lines = [cells(line) for line in table(made()).splitlines() if line.startswith("|")]
    assert lines[0] == ["row", "", "All", "Top", "s"]
    assert lines[2] == ["a", "paper", "78.90", "80.00", ""]  # as many decimals as the paper prints anywhere
    assert lines[3][:2] == ["", "measured, attention"]
    assert lines[3][2].startswith("80.0 (")
    assert lines[3][2].endswith("[seeds 60.0 to 80.0]")
    assert lines[3][-1] == "1"
    assert lines[4] == ["", "measured, paper", lines[4][2], "—", ""]
    assert lines[5] == ["b", "paper", "—", "43.25", ""]
    assert lines[6] == ["", "measured", "not run", "not run", ""]
    assert lines[7][:2] == ["own", "measured"]
    widths = {len(line) for line in table(made()).splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_a_section_says_what_differs_what_contradicts_and_what_is_missing() -> None:
    text = section(made())
    assert text.startswith("## Table 3: How\n")
    assert "How this differs from the paper: the model is small." in text
    assert "- a beats b (attention): **does not hold** — a − b: -1.0" in text
    assert "- c: **holds**\n" in text
    assert "- Not measured, b: no weights" in text
    assert "- Not measured, a: no data for it" in text
    assert "- A note of the paper." in text
    assert "2 s of this run" in text
    assert "seeds 0, 1" in text


def test_what_no_row_has_is_the_columns_fault() -> None:
    one = row("a", [True, False])
    rows = [Row(label, "", one.cells, one.records, {"Top": "no data"}) for label in ("a", "c")]
    text = section(Result("table3", "How", PRINTED, ("All", "Top"), rows))
    assert "- Not measured, Top: no data" in text


def test_a_gap_is_named_with_the_papers_figures() -> None:
    text = section(Result("table12", "Images", PRINTED, PRINTED.columns, gap="nothing generates images"))
    assert "**Not measured: nothing generates images**" in text
    assert "78.90" in text
    assert "measured values" not in text
    assert "s of this run" not in text


def test_spreads_and_whole_numbers() -> None:
    printed = PaperTable(("All",), {"a": (22.0,)}, {"a": (2.0,)})
    lines = table(Result("table10", "x", printed, ("All",))).splitlines()
    assert cells(lines[-1]) == ["a", "paper", "22 ± 2"]


def test_the_report_begins_with_what_contradicts_the_paper() -> None:
    told = {
        "commit": "abc", "model": "pocket", "dtype": "float32", "device": "cpu", "versions": {"torch": "2"},
        "data": {"composition": "shapes", "vqa": "shapes"}, "scale": "quick", "seeds": [0], "seconds": 90,
        "trainings": [
            {"recipe": "few-shot", "data": "composition", "seed": 0, "items": 270, "epochs": 4, "steps": 135,
             "seconds": 40.2}
        ],
        "calibrations": [
            {"recipe": "calibrated", "score": "attention, steps=4", "training": None, "data": "composition",
             "seed": 0, "items": 270, "digest": "ab", "model": "heads", "before": estimate(0.8),
             "after": estimate(0.875), "ece": 0.0312, "brier": 0.1, "seconds": 61.7}
        ],
    }  # fmt: skip
    text = markdown([made(), Result("table12", "Images", gap="no images")], told)
    assert "Model pocket (float32 on cpu), data shapes; scale quick, seed 0; 1.5 minutes" in text
    assert "commit abc" in text
    assert "Claims of the paper: 1 does not hold, 1 holds." in text
    assert "Contradicted here:\n- table3: a beats b (attention)" in text
    assert "Not measured:\n- table12: no images" in text
    assert "| few-shot | composition | 0 | 270 | 4 | 135 | 40 |" in text
    assert (
        "| calibrated | attention, steps=4 |  | composition | 0 | 270 | heads | 80.00% [75.00%, 85.00%] | "
        "87.50% [82.50%, 92.50%] | 0.031 | 62 |" in text
    )
    assert text.index("## Trainings") < text.index("## Calibrations") < text.index("## Table 3")
    assert text.index("Contradicted") < text.index("## Trainings") < text.index("## Table 3")


def test_a_row_without_its_model_or_data_stays_with_the_reason() -> None:
    from types import SimpleNamespace

    from discffusion.errors import CheckpointError
    from discffusion.reproduce.columns import REFERRING
    from discffusion.reproduce.methods import ours
    from discffusion.reproduce.runner import LacksDataError
    from discffusion.reproduce.tabulate import measured_row

    def runner(error: Exception) -> Any:
        def measure(*_: Any) -> None:
            raise error

        return SimpleNamespace(measure=measure)

    for error in (CheckpointError("no such model"), LacksDataError("no data given for MS-COCO")):
        found = measured_row(runner(error), ours("ours"), REFERRING)
        assert found.cells == {}
        assert found.absent == {"Top-1 Acc.": str(error), "Top-5 Acc.": str(error)}
    elsewhere = measured_row(
        SimpleNamespace(scale=SimpleNamespace(name="quick")),
        ours("ours", "paper", places=("composition",)),
        REFERRING,
    )  # type: ignore[arg-type]
    assert (
        "at the scale quick, the variant paper is measured on Compositional Visual Genome alone"
        in (elsewhere.absent["Top-1 Acc."])
    )
