"""oneDNN points the stack register into the heap; a signal's frame must not land there, in whatever thread that is."""

from __future__ import annotations

import json
import platform
import sys

import pytest
from tests.python.processes import ROOT
from tests.python.run_python import run_python

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() != "x86_64",
    reason="elsewhere oneDNN has no such kernels",
)

SOAK = """
import sys
from tests.benchmarks.signals import soak
print(soak(float(sys.argv[1]) if len(sys.argv) > 1 else {seconds}, {timer}, {threads}, {resized}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("timer", "threads", "resized"), [(True, 2, False), (False, 2, False), (True, 4, True)]
)
def test_signals_beside_matrix_kernels_damage_nothing(timer: bool, threads: int, resized: bool) -> None:
    run = run_python(
        SOAK.format(seconds=20, timer=timer, threads=threads, resized=resized),
        ROOT,
        OMP_NUM_THREADS=str(threads),
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "the same numbers" in run.stdout


# Asks every thread of the caller's team, by OpenMP itself, for its stack for signals.
ASK = """
import ctypes, json, threading
import numpy as np
import torch
from discffusion import Scorer

class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

libc, openmp = ctypes.CDLL(None), ctypes.CDLL("libgomp.so.1")
WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

def stacks(size):
    found, meet = {}, threading.Barrier(size)
    @WORK
    def ask(_):
        meet.wait()
        stack = Stack()
        libc.sigaltstack(None, ctypes.byref(stack))
        found[threading.get_native_id()] = 0 if stack.flags & 2 else stack.size
    openmp.GOMP_parallel(ask, None, size, 0)
    return found

def without(size):
    me = threading.get_native_id()
    return [bytes for thread, bytes in stacks(size).items() if thread != me]

def has_one():
    return stacks(1)[threading.get_native_id()]

image = np.zeros((64, 64, 3), np.uint8)
torch.set_num_threads(4)
torch.zeros(1000, 1000) + 1
told = {"before": without(4), "mine before": has_one()}
scorer = Scorer(config="attention", noise_levels=[0.5], device="cpu")
scorer.score(image, "a cat")
told["after"], told["mine after"] = without(4), has_one()

told["smaller"] = without(2)  # two of the four threads end
scorer.score(image, "a cat")
told["again"] = without(4)

torch.set_num_threads(6)
scorer.score(image, "a cat")
told["larger"] = without(6)

def elsewhere():
    scorer.score(image, "a cat")
    told["another caller"] = without(6)

thread = threading.Thread(target=elsewhere)
thread.start()
thread.join()

without(2)
torch.zeros(1000, 1000) + 1  # new ones, outside of the core
told["torch's own"] = without(6)
print(json.dumps(told))
"""


def test_every_thread_of_a_team_has_a_stack_for_signals() -> None:
    run = run_python(ASK)
    assert run.returncode == 0, run.stderr[-2000:]
    told = json.loads(run.stdout)
    assert told["before"] == [0, 0, 0] and told["mine before"] == told["mine after"]
    for which, threads in {
        "after": 3,
        "smaller": 1,
        "again": 3,
        "larger": 5,
        "another caller": 5,
        "torch's own": 5,
    }.items():
        assert len(told[which]) == threads, which
        assert all(size >= 64 << 10 for size in told[which]), (which, told[which])
