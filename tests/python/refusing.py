"""Memory that is refused: blocks above a size cannot be had, as where none of that size are left.

A limit of the address space would do as well, were it not that oneDNN then now and then calls a kernel that it had no
room to compile (docs/faults.md), which ends the process. Kernels are smaller than what is refused here.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


def build(folder: Path) -> dict[str, str]:
    """Compiles the library of :func:`refused`: the variables of a process that is started with it."""
    path = str(folder / "refusing.so")
    flags = ["-O1", "-shared", "-fPIC", "-Wall"]
    subprocess.run([os.environ.get("CC", "cc"), *flags, str(SOURCE), "-o", path, "-ldl"], check=True)
    return {"LD_PRELOAD": path}


@contextmanager
def refused(above: int) -> Iterator[None]:
    """While no block of more than so many bytes can be had."""
    refuse = ctypes.CDLL(None).refuse_above
    refuse.argtypes = [ctypes.c_size_t]
    refuse(above)
    try:
        yield
    finally:
        refuse(ctypes.c_size_t(-1).value)
