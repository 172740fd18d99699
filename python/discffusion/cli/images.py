"""Images named on the command line."""

from __future__ import annotations

import sys


def read(name: str) -> str | bytes:
    """The image that `name` stands for: a path, or standard input for ``-``."""
    return sys.stdin.buffer.read() if name == "-" else name
