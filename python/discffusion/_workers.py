"""Which part of the work is this process's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from discffusion import _native
from discffusion.errors import ConfigError

__all__ = ["Share", "local_device", "local_index", "rank", "share"]


class Share(NamedTuple):
    """The part `number` (from 0) `of` so many, and who says so."""

    number: int
    of: int
    source: str = "arguments"


def share(index: int | None = None, count: int | None = None) -> Share:
    """The share that is given, or that the launcher tells by environment variables, or else everything.

    Understood are ``RANK`` and ``WORLD_SIZE`` (torchrun, ``accelerate launch``) and those of SLURM: the task of a job
    array, the process of a step, or both.

    Raises:
        ConfigError: only one of both is given, or they make no share.
    """
    if (index is None) != (count is None):
        raise ConfigError(f"shard_index is {index!r} and num_shards {count!r}; give both or neither")
    if index is not None and count is not None:
        return _checked(Share(index, count))
    environment = os.environ
    own = rank()
    if own.source != "alone":
        return own
    if "SLURM_ARRAY_TASK_ID" in environment and "SLURM_ARRAY_TASK_COUNT" in environment:
        first = _number(environment, "SLURM_ARRAY_TASK_MIN") if "SLURM_ARRAY_TASK_MIN" in environment else 0
        own = Share(
            _number(environment, "SLURM_ARRAY_TASK_ID") - first,
            _number(environment, "SLURM_ARRAY_TASK_COUNT"),
            "SLURM",
        )
    if "SLURM_PROCID" in environment and "SLURM_NTASKS" in environment:
        tasks = _number(environment, "SLURM_NTASKS")
        own = Share(own.number * tasks + _number(environment, "SLURM_PROCID"), own.of * tasks, "SLURM")
    return _checked(own)


def rank() -> Share:
    """The place of this process among those that ``torchrun`` or ``accelerate launch`` started, or that of one alone.

    Raises:
        ConfigError: the environment variables make no sense.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Share(0, 1, "alone")
    source = "RANK and WORLD_SIZE"
    return _checked(Share(_number(os.environ, "RANK"), _number(os.environ, "WORLD_SIZE"), source))


def local_index() -> int | None:
    """The number of this process among those on its machine, None if no launcher tells."""
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        if name in os.environ:
            return _number(os.environ, name)
    return None


def local_device(device: str) -> str:
    """`device`; in place of ``"auto"``, where a launcher started several processes, one of the machine's for each."""
    index = local_index()
    if device != "auto" or index is None:
        return device
    core = _native.core()
    _native.load_cuda("auto")
    count = core.cuda_device_count()
    return f"cuda:{index % count}" if count > 1 else device


def _checked(given: Share) -> Share:
    for name, value in (("index", given.number), ("count", given.of)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"the share's {name} is {value!r}; expected a whole number")
    if not 0 <= given.number < given.of:
        raise ConfigError(
            f"share {given.number} of {given.of} (from {given.source}) is none; expected 0 to one below the count"
            + ("; a job array must count in steps of 1" if given.source == "SLURM" else "")
        )
    return given


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment[name]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ConfigError(f"the environment variable {name} is {text!r}; expected a whole number")
    return int(text)
