"""Signals while matrix kernels run, for as long as one likes: nothing may be damaged, and no number another.

``python -m tests.benchmarks.signals --timer 600`` scores for ten minutes under a profiling timer of 1 kHz, which goes
to whichever thread runs; ``--several 600`` under three kinds of signal from another process, in all 2,000 a second. The
handlers are Python's and do nothing. It prints what was done, and ends by a signal itself where the heap was damaged.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time

SEVERAL = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)

SENDER = """
import os, sys, time
process, rate, numbers = int(sys.argv[1]), float(sys.argv[2]), [int(number) for number in sys.argv[3:]]
due = time.perf_counter()
while True:
    for number in numbers:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            sys.exit()
    due += len(numbers) / rate
    time.sleep(max(0.0, due - time.perf_counter()))
"""


def soak(seconds: float, timer: bool, threads: int, resized: bool = False) -> str:
    """Scores for so long under signals, with so many threads; `resized` makes teams of other sizes in between."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import numpy as np

    from discffusion import Scorer

    scorer = Scorer(config="attention", noise_levels=[0.5], seed=1, device="cpu")
    image, texts = np.zeros((64, 64, 3), np.uint8), [f"a red circle left of {i} squares" for i in range(8)]
    before = scorer.matrix([image], texts)
    if resized:
        import torch

        small = torch.nn.Conv2d(16, 16, 3, padding=1)
    heard = 0

    def hear(*_: object) -> None:
        nonlocal heard
        heard += 1

    for number in (signal.SIGPROF, *SEVERAL):
        signal.signal(number, hear)
    sender = None
    if timer:
        signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    else:
        numbers = [str(int(number)) for number in SEVERAL]
        sender = subprocess.Popen([sys.executable, "-c", SENDER, str(os.getpid()), "2000", *numbers])
    end, calls, same = time.monotonic() + seconds, 0, True
    while time.monotonic() < end:
        if resized:
            small(torch.zeros(3, 16, 2, 2))
        same &= bool(np.array_equal(scorer.matrix([image], texts), before))
        calls += 1
    signal.setitimer(signal.ITIMER_PROF, 0)
    if sender is not None:
        sender.kill()
        sender.wait()
    numbers_ = "the same numbers" if same else "OTHER NUMBERS"
    return f"{calls} matrices, {heard} calls of a handler, {numbers_}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--timer", type=float, metavar="SECONDS", help="a profiling timer of 1 kHz")
    kind.add_argument("--several", type=float, metavar="SECONDS", help="three signals, together 2 kHz")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resized", action="store_true", help="with teams of other sizes in between")
    given = parser.parse_args()
    seconds = given.several if given.timer is None else given.timer
    print(soak(seconds, given.timer is not None, given.threads, given.resized))


if __name__ == "__main__":
    main()
