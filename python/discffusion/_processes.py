"""Processes that do one piece of work together, as ``torchrun`` or ``accelerate launch`` starts them.

They talk through ``torch.distributed``: gloo on CPUs, NCCL on CUDA devices. What goes between them are numbers and
bytes, never pickled objects.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from discffusion._workers import local_index, rank
from discffusion.errors import ConfigError, DiscffusionError

__all__ = ["ProcessGroup", "SingleProcess", "joined", "own_range"]

# One process may be at work for hours before the others hear of it; that it died they hear at once.
_PATIENCE = timedelta(days=1)
# After so many seconds a process says for whom it waits.
_SAY_AFTER = 30.0
_groups = count()

Array = TypeVar("Array", NDArray[np.float32], NDArray[np.float64], NDArray[np.int64], NDArray[np.uint8])


class SingleProcess:
    """One process that does everything.

    Args:
        launched: whether a launcher started it, which may start several the next time.
    """

    rank, size = 0, 1

    def __init__(self, launched: bool = False) -> None:
        self.launched = launched

    def sum(self, values: Array) -> Array:
        """The sum over all processes, the same to the last bit in each."""
        return values

    def broadcast(self, data: bytes | None) -> bytes:
        """What the first process says, in all of them."""
        assert data is not None
        return data


class ProcessGroup(SingleProcess):
    """Several processes.

    Args:
        device: where numbers must be to be sent, as torch names it.
    """

    def __init__(self, device: str) -> None:
        import torch
        import torch.distributed as dist

        super().__init__(launched=True)
        self._torch, self._dist, self._device = torch, dist, device
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def sum(self, values: Array) -> Array:
        """The sum over all processes, the same to the last bit in each."""
        tensor = self._torch.from_numpy(np.ascontiguousarray(values)).to(self._device)
        self._sent(self._dist.all_reduce, tensor)
        total: Array = tensor.cpu().numpy()
        return total

    def broadcast(self, data: bytes | None) -> bytes:
        """What the first process says, in all of them."""
        first = data if self.rank == 0 and data is not None else b""
        length = int(self._first(np.array([len(first)], np.int64))[0])
        content = np.frombuffer(first, np.uint8) if self.rank == 0 else np.zeros(length, np.uint8)
        return self._first(content).tobytes() if length else b""

    def _first(self, values: Array) -> Array:
        tensor = self._torch.from_numpy(values.copy()).to(self._device)
        self._sent(self._dist.broadcast, tensor, 0)
        received: Array = tensor.cpu().numpy()
        return received

    def _sent(self, send: Any, *arguments: Any) -> None:
        try:
            send(*arguments)
        except RuntimeError as error:  # of gloo and NCCL alike
            raise DiscffusionError(
                f"process {self.rank} of {self.size} lost contact with the others ({error}); restart all of them"
            ) from None


@contextmanager
def joined(device: str, together: bool | None, what: str = "this call") -> Iterator[SingleProcess]:
    """The processes that were started beside this one, or this one alone.

    All of them have come when it begins. One that waits long for the others says so: a training loop calls evaluate of
    its first process alone more often than not.

    Args:
        device: of the model, as ``"cpu"`` or ``"cuda:0"``.
        what: the function that all of them must call, for that warning.
        together: whether they share the work; None for yes, if a launcher told of several (``RANK``, ``WORLD_SIZE``).

    Raises:
        ConfigError: they are to, and no launcher told of them.
    """
    if together is not None and not isinstance(together, bool):
        raise ConfigError(f"distributed is {together!r}; expected True, False or None")
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    if together and not launched:
        raise ConfigError(
            "distributed=True needs processes that a launcher starts: torchrun --nproc-per-node 4 script.py"
        )
    if together is False or rank().of == 1:
        yield SingleProcess(launched=launched and together is not False)
        return
    import torch
    import torch.distributed as dist

    own = not dist.is_initialized()
    with _saying(what):
        if own:
            if device.startswith("cuda"):
                torch.cuda.set_device(device)
            dist.init_process_group(
                "nccl" if device.startswith("cuda") else "gloo",
                # a name of its own: under one that was used before, a process may find where another one was then
                store=dist.PrefixStore(f"discffusion {next(_groups)}", _store()),
                rank=rank().number,
                world_size=rank().of,
                timeout=_PATIENCE,
            )
    on_gpu = dist.get_backend() == "nccl"
    try:
        group = ProcessGroup(
            (device if device.startswith("cuda") else f"cuda:{local_index() or 0}") if on_gpu else "cpu"
        )
        with _saying(what):  # in a group of the caller's this is the first that others have to answer
            group.sum(np.zeros(1))
        yield group
    finally:
        if own:
            dist.destroy_process_group()


@contextmanager
def _saying(what: str) -> Iterator[None]:
    """Warns, if what is done within takes long, that the other processes have not come."""

    def say() -> None:
        me = rank()
        logging.getLogger("discffusion").warning(
            "%s has waited %g s for the other processes (this is process %d of %d): call it in all of them, or here "
            "alone with distributed=False",
            what, _SAY_AFTER, me.number, me.of,
        )  # fmt: skip

    timer = threading.Timer(_SAY_AFTER, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@cache
def _store() -> Any:
    """Where processes find each other, which the first one, or the launcher, keeps until it ends."""
    import torch.distributed as dist

    # without it, the address of a single machine is what torchrun uses too
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")
    store, _, _ = next(dist.rendezvous("env://", timeout=_PATIENCE))
    store.set_timeout(_PATIENCE)
    return store


def own_range(total: int, group: SingleProcess) -> range:
    """This process's places among `total`: next to each other, in the order of ranks, as even as can be."""
    return range(total * group.rank // group.size, total * (group.rank + 1) // group.size)
