"""Datasets, baselines and metrics by name, of this package and of others that add theirs by entry points."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from tests.python.run_python import run_python

from discffusion._registry import Entry, Registry
from discffusion.errors import ConfigError

MODULE = '''
import numpy as np
from discffusion.data import Dataset, MatchItem
from discffusion.evaluation.metrics import Metric, Result
from discffusion.evaluation.estimate import Estimate

print("imported", end=" ")


def load(root=None, split="test", subset=None, *, shade=200):
    """Two squares.

    Args:
        shade: of the brighter one.
    """
    images = [np.full((8, 8, 3), level, np.uint8) for level in (20, shade)]
    return [MatchItem("a", images, ["dark", "bright"], np.eye(2, dtype=bool))]


class Brightness:
    def __init__(self, factor=1.0):
        self.factor = factor

    def matrix(self, images, texts):
        level = [np.asarray(image).mean() * self.factor for image in images]
        return np.array([[-x if text == "dark" else x - 110 for text in texts] for x in level])

    def describe(self):
        return {"factor": self.factor}


def count(records):
    return Result({"": Estimate(float(len(records)), 0.0, 9.0, 1, 0, "none", 1, "score")})


counted = Metric("counted", "how many items there are", direct=count, unit="score")
misnamed = Metric("another", "of another name", direct=count)
'''
ENTRY_POINTS = """
[discffusion.datasets]
squares = toy_matching:load
shapes = toy_matching:load
lost = toy_missing:load

[discffusion.baselines]
brightness = toy_matching:Brightness
number = toy_matching:counted.line

[discffusion.metrics]
counted = toy_matching:counted
function = toy_matching:count
misnamed = toy_matching:misnamed
"""


def install(folder: Path, name: str = "toy-matching", entry_points: str = ENTRY_POINTS) -> Path:
    """A distribution as pip leaves it, and its module."""
    (folder / "toy_matching.py").write_text(MODULE)
    info = folder / f"{name.replace('-', '_')}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(entry_points)
    return folder


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("site"))


def said(code: str, *folders: Path) -> str:
    result = run_python("import warnings; warnings.simplefilter('ignore')\n" + code, *folders)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_all_three_work_together(toy: Path) -> None:
    code = """
from discffusion import evaluate, load_dataset
from discffusion.baselines import load_baseline
items = load_dataset("squares", shade=220)
report = evaluate(load_baseline("brightness", factor=2.0), items, metrics=["counted", "accuracy", "acc@1"])
print(report["counted"].value, report["accuracy"].value, items[0].images[1].max())
"""
    assert said(code, toy) == "imported 1.0 1.0 220"


def test_the_command_line_knows_them(toy: Path, tmp_path: Path) -> None:
    code = "import sys; from discffusion.cli import main; sys.argv[1:] = {}; main()"
    listed = said(code.format(["eval", "--list", "--json"]), toy)
    lists = json.loads(listed)  # nothing of the other package was imported
    for kind, name in (("datasets", "squares"), ("baselines", "brightness"), ("metrics", "counted")):
        assert lists[kind][name] == "from the package toy-matching 1.5"
        assert next(iter(lists[kind])) in ("aro", "blip2-itm", "acc@1")
    options = said(code.format(["eval", "squares", "--list"]), toy)
    assert "shade  of the brighter one" in options
    ran = ["eval", "squares", "--data", "shade=240", "--baseline", "brightness", "--metrics", "counted"]
    result = run_python(code.format([*ran, "--json"]), toy)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.removeprefix("imported "))
    assert "counted" in json.dumps(report)
    assert "left out" in result.stderr  # its own "shapes"


def test_own_names_cannot_be_taken(toy: Path) -> None:
    code = """
import warnings
from discffusion import load_dataset
from discffusion.data import describe_datasets
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    lines = describe_datasets()
print(len(load_dataset("shapes", n=3)), lines["shapes"].split(";")[0], *[str(w.message) for w in caught], sep=" | ")
"""
    assert said(code, toy) == (
        "3 | drawn scenes of two coloured shapes | the package toy-matching 1.5 adds a dataset 'shapes', which "
        "discffusion has itself; it is left out"
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            "load_dataset('lost')",
            "the dataset 'lost' of the package toy-matching 1.5 cannot be loaded: ",
        ),
        ("load_baseline('number')", "the baseline 'number' of the package toy-matching 1.5 is 'how many"),
        ("metric_named('function')", "the metric 'function' of the package toy-matching 1.5 is <function"),
        (
            "metric_named('misnamed')",
            "the metric 'misnamed' of the package toy-matching 1.5 is a metric that calls",
        ),
    ],
)
def test_a_broken_one_fails_when_it_is_asked_for(toy: Path, call: str, message: str) -> None:
    code = f"""
from discffusion import load_dataset, errors
from discffusion.baselines import load_baseline, describe_baselines
from discffusion.data import describe_datasets
from discffusion.evaluation.metrics import metric_named, describe_metrics
from discffusion.cli.words import dataset_options
describe_datasets(), describe_baselines(), describe_metrics()
assert "shade" in dataset_options()
try:
    {call}
except errors.InstallationError as error:
    print(error)
"""
    assert message in said(code, toy)


def test_two_packages_of_one_name(toy: Path, tmp_path: Path) -> None:
    other = install(tmp_path, "other-matching", "[discffusion.datasets]\nsquares = toy_matching:load\n")
    code = """
from discffusion import load_dataset, errors
try:
    load_dataset("squares")
except errors.DatasetOptionError as error:
    print(error)
"""
    message = said(code, toy, other)
    assert message.startswith("the dataset 'squares' is in several packages: ")
    assert "toy-matching 1.5" in message and "other-matching 1.5" in message


@pytest.fixture
def numbers() -> Registry[float]:
    return Registry(
        "number", {"pi": Entry("math:pi", "a ratio"), "base": Entry("math:e", "a base")}, note=" (of few)"
    )


def test_what_is_asked_for_is_imported(numbers: Registry[float]) -> None:
    assert list(numbers) == ["pi", "base"] and len(numbers) == 2
    assert numbers.load("pi") == numbers["pi"] == numbers.get("pi") == pytest.approx(3.14159, abs=1e-5)
    assert numbers.describe() == {"pi": "a ratio", "base": "a base"}
    assert "pi" in numbers and "tau" not in numbers and numbers.get("tau") is None
    with pytest.raises(KeyError):
        numbers["tau"]
    code = (
        "import sys; from discffusion import data; data.describe_datasets(); print('discffusion.data.aro' in "
    )
    assert said(code + "sys.modules)") == "False"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bass", "unknown number 'bass' (did you mean 'base'?); there are: pi, base (of few)"),
        (None, "unknown number None; there are: pi, base (of few)"),
        (["pi"], "unknown number ['pi']"),
    ],
)
def test_an_unknown_name(numbers: Registry[float], name: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        numbers.load(name)
    assert str(caught.value).startswith(message)


def test_the_package_names_its_groups() -> None:
    from discffusion.baselines import _BASELINES
    from discffusion.data import _DATASETS
    from discffusion.evaluation.metrics import METRICS

    groups = [registry.group for registry in (_DATASETS, _BASELINES, METRICS)]
    assert groups == ["discffusion.datasets", "discffusion.baselines", "discffusion.metrics"]
    guide = (Path(__file__).parents[2] / "docs" / "extending.md").read_text("utf-8")
    assert all(f'[project.entry-points."{group}"]' in guide for group in groups)


def test_own_targets_exist() -> None:
    from discffusion.baselines import _BASELINES
    from discffusion.data import _DATASETS
    from discffusion.evaluation.metrics import METRICS
    from discffusion.reproduce.registry import _EXPERIMENTS

    for registry in (_DATASETS, _BASELINES, METRICS, _EXPERIMENTS):
        for name in registry.own:
            registry.load(name)


def test_entry_points_are_read_once_and_not_for_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []

    def entry_points(group: str) -> list[metadata.EntryPoint]:
        reads.append(group)
        return [metadata.EntryPoint("tau", "math:tau", group)]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    numbers: Registry[float] = Registry("number", {"pi": Entry("math:pi")}, group="numbers")
    assert numbers.load("pi") < 4 and "pi" in numbers
    assert reads == []
    assert numbers.load("tau") > 6 and list(numbers) == ["pi", "tau"] and "e" not in numbers
    assert reads == ["numbers"]
