"""Runs Python code in a process of its own, as a user's session would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import discffusion


def run_python(code: str, *first_on_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs `code`; the folders come before everything else on the import path, the variables are its environment's."""
    package = Path(discffusion.__file__).parents[1]
    path = os.pathsep.join(str(folder) for folder in (*first_on_path, package))
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
