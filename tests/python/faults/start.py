"""Programs of this folder, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.python.processes import ROOT, environment


def lines(module: str, *arguments: str, **variables: str) -> list[Any]:
    """What ``python -m tests.python.faults.MODULE`` prints, a line of JSON each; with these variables set."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.python.faults.{module}", *arguments],
        cwd=ROOT,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def struck(fault: str, stages: Sequence[str], times: int, seed: int, folder: Path) -> list[dict[str, Any]]:
    """By stage, how often it ended how; see :mod:`tests.python.faults.child`. Empty if it cannot be done here."""
    found = lines("child", fault, ",".join(stages), str(times), str(seed), str(folder))
    return [] if found == ["a disk cannot be mounted"] else found
