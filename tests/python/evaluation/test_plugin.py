"""The pytest plugin, in test runs of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.python.run_python import run_python

import discffusion
from discffusion import _native, pytest_plugin

pytest_plugins = ["pytester"]


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Where runs have this plugin and no other, installed or not."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(discffusion.__file__).parents[1]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.plugins = ["discffusion.pytest_plugin"]
    return pytester


def run(session: pytest.Pytester, code: str, *arguments: str) -> pytest.RunResult:
    session.makepyfile(code)
    return session.runpytest_subprocess("-p", "discffusion.pytest_plugin", "-ra", *arguments)


def test_the_scorer_lasts_a_session(session: pytest.Pytester) -> None:
    code = """
        import discffusion
        seen = []

        def test_one(dsd_scorer):
            seen.append(dsd_scorer)
            report = discffusion.evaluate(dsd_scorer, discffusion.load_dataset("shapes", n=2))
            assert 0 <= report["accuracy"].value <= 1

        def test_two(dsd_scorer):
            assert seen == [dsd_scorer]
            assert (dsd_scorer.model_id, dsd_scorer.device, dsd_scorer.dtype) == ("pocket", "cpu", "float32")
            assert dsd_scorer.config.noise_levels == (0.5,)
    """
    options = ["--dsd-device", "cpu", "--dsd-dtype", "float32", "--dsd-config", '{"noise_levels": [0.5]}']
    run(session, code, *options).assert_outcomes(passed=2)


def test_a_preset_and_a_model(session: pytest.Pytester) -> None:
    code = """
        def test_it(dsd_scorer):
            assert dsd_scorer.config.map == "probs"
    """
    run(session, code, "--dsd-config", "paper", "--dsd-device", "cpu").assert_outcomes(passed=1)
    result = run(session, code, "--dsd-model", "no/such/model")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*CheckpointError*no/such/model*"])


def test_a_config_that_is_none(session: pytest.Pytester) -> None:
    result = run(session, "def test_it(): pass", "--dsd-config", '{"steps": }')
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--dsd-config is *steps*, which is not JSON*"])


def test_without_a_device_tests_for_one_are_skipped(
    session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
        import pytest

        @pytest.fixture
        def costly():
            raise AssertionError("made for a test that is skipped")

        @pytest.mark.dsd_gpu
        def test_with(costly): ...

        @pytest.mark.gpu
        def test_with_a_fixture_of_ours(costly, dsd_device): ...

        def test_without(): ...
    """
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    session.makeini("[pytest]\nmarkers = gpu: of the project")
    result = run(session, code, "--strict-markers")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(
        ["SKIPPED*[[]2[]]*needs a CUDA device; there is none (CUDA_VISIBLE_DEVICES='')"]
    )


def test_tests_of_other_projects_are_left_alone(
    session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``gpu`` is a common marker: a project whose devices this core does not see keeps its tests."""
    code = """
        import sys
        import pytest

        pytestmark = pytest.mark.gpu

        @pytest.fixture
        def device(): return "rocm"

        def test_function(device): assert device == "rocm"

        class TestClass:
            @pytest.mark.parametrize("n", [1, 2])
            def test_method(self, n): ...

        def test_nothing_was_loaded():
            assert not {"torch", "numpy", "discffusion._core"} & set(sys.modules)
    """
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    session.makeini("[pytest]\nmarkers = gpu: of the project")
    run(session, code, "--strict-markers").assert_outcomes(passed=4)
    # nor does the plugin lend its markers to a project that has none
    unknown = run(
        session,
        "import pytest\n\n@pytest.mark.gpu\ndef test_it(): ...",
        "--strict-markers",
        "-c",
        "/dev/null",
    )
    unknown.assert_outcomes(errors=1)
    unknown.stdout.fnmatch_lines(["*'gpu' not found in `markers` configuration option*"])


@pytest.mark.gpu
def test_with_a_device_they_run(session: pytest.Pytester) -> None:
    problem = pytest_plugin._without_cuda()
    if problem is not None:
        pytest.skip(problem)
    code = """
        import pytest

        @pytest.mark.dsd_gpu
        def test_it(dsd_scorer):
            assert dsd_scorer.device.startswith("cuda")
    """
    run(session, code).assert_outcomes(passed=1)


def test_the_marker_is_told(session: pytest.Pytester) -> None:
    run(session, "", "--markers").stdout.fnmatch_lines(["*pytest.mark.dsd_gpu: needs a CUDA device*"])
    run(session, "", "--help").stdout.fnmatch_lines(["*--dsd-model=MODEL*"])


class Core:
    """Of a machine with two devices."""

    @staticmethod
    def cuda_available() -> bool:
        return True

    @staticmethod
    def cuda_device_count() -> int:
        return 2


@pytest.mark.parametrize(
    ("given", "worker", "expected"),
    [
        ("auto", "gw0", "cuda:0"),
        ("auto", "gw3", "cuda:1"),
        ("cuda", "gw2", "cuda:0"),
        ("cuda", None, "cuda"),
        ("auto", None, "auto"),
        ("cuda:1", "gw0", "cuda:1"),
        ("cpu", "gw1", "cpu"),
    ],
)
def test_workers_share_out_the_devices(
    given: str, worker: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_native, "core", lambda: Core)
    monkeypatch.setattr(_native, "load_cuda", lambda device: None)
    if worker is None:
        monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    else:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)

    class Config:
        @staticmethod
        def getoption(name: str) -> Any:
            return {"--dsd-device": given}[name]

    assert pytest_plugin.dsd_device.__wrapped__(Config) == expected


def test_workers_without_a_device_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without(Core):
        @staticmethod
        def cuda_available() -> bool:
            return False

    monkeypatch.setattr(_native, "core", lambda: Without)
    monkeypatch.setattr(_native, "load_cuda", lambda device: None)
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")

    class Config:
        @staticmethod
        def getoption(_: str) -> str:
            return "auto"

    assert pytest_plugin.dsd_device.__wrapped__(Config) == "auto"


def test_importing_it_loads_nothing() -> None:
    code = (
        "import sys, discffusion.pytest_plugin\n"
        "print([name for name in ('torch', 'numpy', 'discffusion._core', 'scipy') if name in sys.modules])"
    )
    assert run_python(code).stdout == "[]\n"
