"""Ctrl-C, threads and the GIL: a long call can be stopped, shared and worked beside."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from discffusion import Scorer

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_ctrl_c_stops_a_call_within_a_second_and_leaves_the_scorer_usable(tiny: Path) -> None:
    program = textwrap.dedent(
        """
        import signal, sys, time
        import numpy as np
        from discffusion import Scorer
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts deaf to it
        signal.alarm(120)  # should Ctrl-C not work, this ends the test
        scorer = Scorer(sys.argv[1], steps=1000, noise_range=None, batch_size=8)
        image = np.zeros((32, 32, 3), np.uint8)
        before = scorer.with_config(steps=2).score(image, "a red circle")
        print("ready", flush=True)
        try:
            scorer.matrix([image, 255 - image], [f"text {i}" for i in range(50)])
        except KeyboardInterrupt:
            print(time.time(), scorer.with_config(steps=2).score(image, "a red circle") == before, flush=True)
        """
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tiny)], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(1.0)
    sent = time.time()
    child.send_signal(signal.SIGINT)
    stopped, usable = child.stdout.readline().split()
    assert child.wait(30) == 0
    assert float(stopped) - sent < 1.0
    assert usable == "True"


def test_other_threads_run_while_the_core_works(scorer: Scorer) -> None:
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.001):
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    began = time.perf_counter()
    scorer.with_config(steps=50).score(IMAGE, "a red circle left of a blue square")
    ended = time.perf_counter()
    done.set()
    thread.join()
    assert len([t for t in ticks if began < t < ended]) > 3


def test_one_scorer_serves_many_threads(scorer: Scorer) -> None:
    texts = [f"a red circle and {i} squares" for i in range(4)]
    expected = [scorer.score(IMAGE, text) for text in texts]
    results: dict[int, list[float]] = {}

    def work(worker: int) -> None:
        results[worker] = [scorer.score(IMAGE, text) for text in texts]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.allclose(results[worker], expected, rtol=1e-6, atol=0) for worker in range(4))


def test_an_exception_in_the_progress_callback_ends_the_call(scorer: Scorer) -> None:
    def refuse(done: int, total: int) -> None:
        raise LookupError(f"{done} of {total}")

    with pytest.raises(LookupError, match=r"\d of \d"):
        scorer.score(IMAGE, "a red circle", progress=refuse)
    assert np.isfinite(scorer.score(IMAGE, "a red circle"))


def test_signals_beside_matrix_kernels_damage_nothing() -> None:
    """oneDNN points the stack register into the heap; a signal's frame must not land there."""
    program = textwrap.dedent(
        """
        import signal
        import numpy as np
        from discffusion import Scorer
        scorer = Scorer(steps=1, seed=1, device="cpu")
        image = np.zeros((64, 64, 3), np.uint8)
        texts = [f"a red circle left of {i} squares" for i in range(8)]
        before = scorer.matrix([image], texts)
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        same = all(np.array_equal(scorer.matrix([image], texts), before) for _ in range(60))
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(same)
        """
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stdout) == (0, "True\n"), run.stderr[-2000:]
