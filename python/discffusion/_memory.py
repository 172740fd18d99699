"""How much memory is used."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def item_size(dtype: str) -> int:
    """Bytes of one number of a type such as ``"float16"``."""
    return {"float16": 2, "bfloat16": 2, "float64": 8}.get(dtype, 4)


def process() -> dict[str, int]:
    """Bytes of this process in main memory: now (Linux only) and at its peak."""
    usage: dict[str, int] = {}
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        usage["resident"] = pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource
    except ImportError:  # not a Unix
        return usage
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    usage["peak_resident"] = peak if sys.platform == "darwin" else peak * 1024
    return usage
