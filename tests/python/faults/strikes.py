"""What happens to a piece of work: each strike runs it, does something to it, and says how it ended."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.python.faults.disk import Disk

Run = Callable[[], Any]
DONE = "came to its end"


def ended(run: Run) -> str:
    """How `run` ends; exceptions by their names, those of the system with their numbers' too."""
    try:
        run()
    except Exception as error:
        number = getattr(error, "errno", None)
        return type(error).__name__ + (f" {errno.errorcode.get(number, number)}" if number else "")
    return DONE


def ctrl_c(run: Run, after: float) -> tuple[str, float]:
    """SIGINT so many seconds later, and how long it took to be heeded."""
    sent: list[float] = []

    def send() -> None:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(after, send)
    early = False
    try:
        timer.start()
        how = ended(run)
        timer.cancel()
        early = not sent
        timer.join()
    except KeyboardInterrupt:
        # one that comes in the moment after the work is none of its business
        return (DONE if early else "KeyboardInterrupt"), time.perf_counter() - sent[0]
    return (how if early or how != DONE else "went on in spite of it"), 0.0


def killed(run: Run, after: float) -> str:
    """SIGKILL for a copy of this process that is at the work."""
    child = os.fork()
    if child == 0:
        how = 1
        try:
            run()
            how = 0
        finally:
            os._exit(how)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return DONE if os.WEXITSTATUS(status) == 0 else "failed"


def forked(run: Run, seconds: int) -> str:
    """The work in a copy of this process, which must end by itself within so many seconds."""
    child = os.fork()
    if child == 0:
        how = 1
        try:
            signal.alarm(seconds)
            run()
            how = 0
        finally:
            os._exit(how)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return "hung" if os.WTERMSIG(status) == signal.SIGALRM else f"died by signal {os.WTERMSIG(status)}"
    return DONE if os.WEXITSTATUS(status) == 0 else "failed"


def apart(work: Callable[[], str]) -> str:
    """What `work` says in a copy of this process, or the signal that the copy died of."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as file:
        said = file.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return f"died of {signal.Signals(os.WTERMSIG(status)).name}"
    return said or "failed"


def in_threads(run: Run, count: int, same: Callable[[Any, Any], bool]) -> str:
    """The same work in several threads at once."""
    with ThreadPoolExecutor(count) as pool:
        first, *others = [future.result() for future in [pool.submit(run) for _ in range(count)]]
    return DONE if all(same(other, first) for other in others) else "came to other numbers"


def little_memory(run: Run, more: int) -> str:
    """An address space that may grow by so many bytes only."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    used = int(status["VmSize"].split()[0]) * 1024
    before = resource.getrlimit(resource.RLIMIT_AS)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
        try:
            how = ended(run)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
    smaller = any("going on with a batch_size" in str(one.message) for one in said)
    return f"{how}, with a smaller batch" if smaller and how == DONE else how


def large_files_refused(run: Run, most: int) -> str:
    """No file may have more than so many bytes: as on a full disk, a part of what is written is written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        return ended(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full_disk(run: Run, disk: Disk, left: int) -> str:
    """A disk with so many bytes left."""
    disk.fill(left)
    try:
        return ended(run)
    finally:
        disk.empty()


def read_only(run: Run, disk: Disk) -> str:
    """A disk that nothing can be written to."""
    disk.writable(False)
    try:
        return ended(run)
    finally:
        disk.writable(True)


class FailingError(Exception):
    """Of a scorer that is out of order."""


class Failing:
    """A scorer that fails now and then.

    Args:
        scorer: that works.
        draw: says when.
        share: of calls that fail.
    """

    def __init__(self, scorer: Any, draw: random.Random, share: float) -> None:
        self._scorer, self._draw, self._share = scorer, draw, share

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    def score_pairs(self, *arguments: Any) -> Any:
        if self._draw.random() < self._share:
            raise FailingError
        return self._scorer.score_pairs(*arguments)
