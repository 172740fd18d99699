"""What ``import discffusion`` costs and brings."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version

import pytest
from tests.python.run_python import run_python

import discffusion
from discffusion import _native

HEAVY = (
    "torch",
    "transformers",
    "matplotlib",
    "huggingface_hub",
    "diffusers",
    "tqdm",
    "typer",
    "scipy",
    "pandas",
    "pyarrow",
)


def succeeds(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_is_quick_and_light() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import discffusion; seconds = time.perf_counter() - start\n"
        f"print(seconds, *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    runs = [succeeds(run_python(code)).split() for _ in range(3)]
    assert min(float(seconds) for seconds, *_ in runs) < 0.5
    assert all(loaded == [] for _, *loaded in runs)


def test_scorer_brings_no_torch() -> None:
    code = "import sys; from discffusion import Scorer, ScoreConfig; ScoreConfig(); print('torch' in sys.modules)"
    assert succeeds(run_python(code)) == "False"


@pytest.mark.parametrize(
    "order",
    [
        "import torch; from discffusion import ScoreConfig; ScoreConfig()",
        "from discffusion import ScoreConfig; ScoreConfig(); import torch",
    ],
    ids=["torch first", "discffusion first"],
)
def test_either_order_with_torch(order: str) -> None:
    code = order + "\nprint(float((torch.ones(64, 64) @ torch.ones(64, 64)).sum()))"
    assert succeeds(run_python(code)) == str(64.0**3)


def test_public_names_resolve() -> None:
    for name in discffusion.__all__:
        assert getattr(discffusion, name) is not None
        assert name in dir(discffusion)


@pytest.mark.parametrize("name", ["Explanations", "nonsense"])
def test_unknown_names_are_attribute_errors(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(discffusion, name)


def test_versions_agree() -> None:
    assert discffusion.__version__ == _native.core().__version__
    assert _native.core().TORCH_VERSION == _native.TORCH
    try:
        assert version("discffusion") == discffusion.__version__
    except PackageNotFoundError:
        pytest.skip("the package is imported from its source folder")
