"""A pytest plugin: keep thresholds of accuracy and speed as tests.

    def test_accuracy(dsd_scorer):
        report = discffusion.evaluate(dsd_scorer, discffusion.load_dataset("shapes", n=100))
        assert report["accuracy"].low > 0.7

``pytest --dsd-model path/to/model --dsd-device cuda`` runs such tests with another model, on another device. A test
marked ``dsd_gpu``, or one marked ``gpu`` that uses a fixture of this plugin, is skipped where there is no CUDA device.

It comes with the package, so it is there in the tests of every project of an environment: all others are left alone,
and nothing is loaded for them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from discffusion.scorer import Scorer


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options ``--dsd-model``, ``--dsd-device``, ``--dsd-dtype`` and ``--dsd-config``."""
    group = parser.getgroup("discffusion", "image-text matching scores")
    group.addoption(
        "--dsd-model", metavar="MODEL", help="folder or hub id (default: the bundled pocket model)"
    )
    group.addoption(
        "--dsd-device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    group.addoption(
        "--dsd-dtype",
        default="auto",
        metavar="DTYPE",
        help="auto, fastest, float32, float16 or bfloat16 (default: auto)",
    )
    group.addoption(
        "--dsd-config",
        default="default",
        metavar="CONFIG",
        help='how to score: a preset, or fields as JSON, as {"steps": 4} (default: default)',
    )


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker ``dsd_gpu``, and looks at ``--dsd-config`` before any test is run."""
    _score_config(config)
    config.addinivalue_line(
        "markers", "dsd_gpu: needs a CUDA device that discffusion can use, and is skipped where there is none"
    )


@pytest.hookimpl(tryfirst=True)  # before the fixtures of the test are made
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a test that asks this plugin for a CUDA device where none is available."""
    if not _asks_for_cuda(item):
        return
    problem = _without_cuda()
    if problem is not None:
        pytest.skip(problem)


@pytest.fixture(scope="session")
def dsd_device(pytestconfig: pytest.Config) -> str:
    """The device that ``--dsd-device`` means: under pytest-xdist, ``cuda`` is another device for each worker."""
    device: str = pytestconfig.getoption("--dsd-device")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if device not in ("auto", "cuda") or not worker.isdigit() or _without_cuda() is not None:
        return device
    from discffusion import _native

    return f"cuda:{int(worker) % int(_native.core().cuda_device_count())}"


@pytest.fixture(scope="session")
def dsd_scorer(pytestconfig: pytest.Config, dsd_device: str) -> Iterator[Scorer]:
    """A :class:`discffusion.Scorer` of the model that the options name, loaded once a session."""
    from discffusion import Scorer

    with Scorer(
        pytestconfig.getoption("--dsd-model"),
        device=dsd_device,
        dtype=pytestconfig.getoption("--dsd-dtype"),
        config=_score_config(pytestconfig),
    ) as scorer:
        yield scorer


def _asks_for_cuda(item: pytest.Item) -> bool:
    """``gpu`` is a marker of many projects: alone it says nothing of this package."""
    if item.get_closest_marker("dsd_gpu") is not None:
        return True
    ours = {"dsd_device", "dsd_scorer"}.intersection(getattr(item, "fixturenames", ()))
    return bool(ours) and item.get_closest_marker("gpu") is not None


def _score_config(config: pytest.Config) -> str | dict[str, Any]:
    """A preset's name, or fields."""
    given: str = config.getoption("--dsd-config")
    if not given.lstrip().startswith("{"):
        return given
    try:
        fields: dict[str, Any] = json.loads(given)
    except ValueError as error:
        raise pytest.UsageError(f"--dsd-config is {given!r}, which is not JSON: {error}") from None
    return fields


def _without_cuda() -> str | None:
    """Why there is no CUDA device; None if there is one. ``CUDA_VISIBLE_DEVICES`` of the caller is obeyed."""
    from discffusion import _native
    from discffusion.errors import InstallationError

    try:
        core = _native.core()
        _native.load_cuda("cuda")
    except InstallationError as error:
        return f"needs a CUDA device, and the core cannot be loaded: {error}"
    if core.cuda_available() and core.cuda_device_count() > 0:
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "needs a CUDA device; there is none" + (
        "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible!r})"
    )
