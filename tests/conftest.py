"""The marker ``gpu`` of these tests: skipped where there is no CUDA device."""

from __future__ import annotations

import pytest

from discffusion import pytest_plugin


@pytest.hookimpl(tryfirst=True)  # before the fixtures of the test are made
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None:
        return
    problem = pytest_plugin._without_cuda()
    if problem is not None:
        pytest.skip(problem)
