"""Every table and figure is there, with the paper's figures."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.python.reproduce.as_printed import TABLES

from discffusion.errors import ConfigError
from discffusion.reproduce import describe_experiments, experiment, experiment_names

WANTED = [*(f"table{n}" for n in range(1, 13)), *(f"figure{n}" for n in (3, 4, 5, 6, 7, 9, 10))]


def test_every_table_and_figure_is_there() -> None:
    assert set(WANTED) <= set(experiment_names())
    for name in experiment_names():
        found = experiment(name)
        assert found.name == name
        assert found.title
        assert found.paper
        # either it is measured, or it says why not
        assert (found.run is None) == (found.gap is not None)


def test_what_is_not_measured_is_named() -> None:
    gaps = {name for name in experiment_names() if experiment(name).gap}
    assert gaps == {"table5"}
    told = describe_experiments()
    assert "latent consistency" in told["table5"]
    assert "gap" not in told["table3"] and "in part" not in told["table3"]


def test_what_is_measured_in_part_is_named() -> None:
    told = describe_experiments()
    assert "in part: no FID and no inception score" in told["table12"]
    assert "in part: no latent consistency model" in told["figure6"]
    # the rows that a run leaves empty, unless a model is given
    assert {name for name in told if "BLIP-2" in told[name]} == {"table1", "table2", "table10"}
    sources = {name: Path(module.__file__).read_text() for name, module in _modules().items()}
    empty = {name for name, text in sources.items() if "runner.optional(" in text or "LACKS" in text}
    assert empty <= {name for name in told if "(in part:" in told[name] or "(gap:" in told[name]}


def _modules() -> dict[str, Any]:
    return {name: import_module(f"discffusion.reproduce.experiments.{name}") for name in experiment_names()}


@pytest.mark.parametrize("name", ["Table 3", "TABLE3", "table-3", "table_3"])
def test_names_as_people_write_them(name: str) -> None:
    assert experiment(name).name == "table3"


@pytest.mark.parametrize("name", ["table13", "figure2", "", "../table3"])
def test_an_unknown_name_lists_all(name: str) -> None:
    with pytest.raises(ConfigError, match="table1, table2.*figure9"):
        experiment(name)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_the_papers_figures(name: str) -> None:
    """Against a second transcription, which is not made of the first."""
    printed = experiment(name).printed
    assert printed is not None
    wanted, spreads = {}, {}
    for line in TABLES[name].strip().splitlines():
        label, _, figures = line.strip().rpartition(": ")
        parts = [figure.partition("±") for figure in figures.split()]
        factor = 100 if name == "table10" else 1  # printed as fractions there
        wanted[label] = pytest.approx([factor * float(value) for value, _, _ in parts])
        if parts[0][2]:
            spreads[label] = pytest.approx([factor * float(spread) for _, _, spread in parts])
    assert {label: list(values) for label, values in printed.rows.items()} == wanted
    assert {label: list(values) for label, values in printed.spreads.items()} == spreads
    assert all(len(values) == len(printed.columns) for values in printed.rows.values())
