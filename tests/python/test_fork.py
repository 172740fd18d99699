"""A forked child computes as its parent does, with as many threads."""

from __future__ import annotations

import json
import os

import pytest
from tests.python.run_python import run_python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is nothing to fork")

FORK = """
import json, os, sys, threading
import numpy as np
import torch
from discffusion import Scorer

torch.set_num_threads({threads})
scorer = Scorer(config="attention", noise_levels=[0.5], device="cpu")
image = np.zeros((64, 64, 3), np.uint8)

def look():
    before = len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 0
    torch.zeros(1000, 1000) + 1
    more = len(os.listdir("/proc/self/task")) - before if sys.platform == "linux" else 0
    return [torch.get_num_threads(), more, scorer.score(image, "a cat").hex()]

def child():
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            import signal
            signal.alarm(60)
            os.write(writing, json.dumps(look()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        return json.loads(file.read())

told = {{"parent": look()}}
told["child"] = child()
told["parent again"] = look()
told["second child"] = child()

def elsewhere():
    scorer.score(image, "a cat")
    told["of another thread"] = child()

thread = threading.Thread(target=elsewhere)
thread.start()
thread.join()
print(json.dumps(told))
"""


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_child_has_its_parents_threads_and_numbers(threads: int) -> None:
    run = run_python(FORK.format(threads=threads))
    assert run.returncode == 0, run.stderr[-2000:]
    told = json.loads(run.stdout)
    number, _, score = told["parent"]
    assert number == threads
    for which in ("child", "second child", "of another thread"):
        assert told[which][0] == threads, which
        assert told[which][2] == score, which
    assert told["child"][1] == threads - 1
    assert told["parent again"][::2] == [threads, score]
