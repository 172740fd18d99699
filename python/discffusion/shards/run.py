"""Scoring shards, by this process or on Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from discffusion._extras import need
from discffusion._progress import Progress, reporting
from discffusion._workers import share
from discffusion.errors import ConfigError
from discffusion.shards.inputs import Shard, shards_in
from discffusion.shards.layout import Layout
from discffusion.shards.places import Folder
from discffusion.shards.summary import Summary
from discffusion.shards.worker import Worker, counts_in, failure_in, made

__all__ = ["score_shards", "summarize"]

_LAUNCHERS = ("process", "ray")


def score_shards(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    scorer: Any = None,
    *,
    shard_index: int | None = None,
    num_shards: int | None = None,
    launcher: str = "process",
    actors: int | tuple[int, int] | None = None,
    progress: Progress = None,
    **layout: Any,
) -> Summary:
    """Scores every image of some shards with its texts, into one parquet file a shard.

    A file of rows appears when it is complete, and a shard that has one is skipped. So any number of workers may score
    the same shards into the same folder, die, and be started again, in another number too: every image and text ends
    up with exactly one row. Rows are named by shard, member and text, never by worker. What is wrong with an image or
    a text is told in its row (see :data:`discffusion.shards.rows.KINDS`); a shard that cannot be read is reported, and
    the others are scored.

    Args:
        inputs: a file (``.tar`` as of WebDataset, ``.parquet``, ``.jsonl``), a folder of such, a pattern
            (``{00000..00012}``, ``*``), each here or at an address of fsspec (``s3://…``), or a list of those.
        output: a folder, here or at an address.
        scorer: a :class:`~discffusion.Scorer` or another object with ``score_pairs``; or a function without arguments
            that makes one, as Ray needs it; None for ``Scorer()``.
        shard_index, num_shards: score only every `num_shards`-th shard, from number `shard_index` on. Without them,
            torchrun's and SLURM's environment variables tell, see :func:`share`.
        launcher: ``"process"`` for this process, ``"ray"`` for actors of Ray Data, which sees to retries, progress and
            scaling; it uses the cluster that is there, or starts one of this machine.
        actors: on Ray, how many actors, or the fewest and the most; None for one a device: a GPU, or else a core.
        progress: True, False, or a function of ``(done, total)`` in shards; None shows a bar if somebody watches.
        layout: fields of :class:`Layout`: where in a shard images and texts are.

    Raises:
        ConfigError: an argument is wrong, or the folder holds rows made with other settings.
        DatasetError: there are no such shards.
        InstallationError: pyarrow, fsspec or Ray is needed and not installed.
        DiscffusionError: the scorer fails for a reason that is not in the data, or rows cannot be written.
    """
    start = time.perf_counter()
    need("pyarrow.parquet", "shards")
    read = _layout(layout)
    if launcher not in _LAUNCHERS:
        raise ConfigError(f"launcher is {launcher!r}; expected one of {', '.join(_LAUNCHERS)}")
    if launcher == "process" and actors is not None:
        raise ConfigError('actors are of launcher="ray"; other launchers start as many processes as you like')
    every = shards_in(inputs)
    folder = Folder(output)
    if launcher == "ray":
        if shard_index is not None or num_shards is not None:
            raise ConfigError(
                "on Ray shards are handed out one by one; shard_index and num_shards are not used"
            )
        from discffusion.shards.on_ray import score_on_ray

        summary = score_on_ray(every, os.fspath(output), read, scorer, actors)
    else:
        part = share(shard_index, num_shards)
        summary = _score(every[part.number :: part.of], folder, read, scorer, progress)
    names = folder.names()
    summary.left = sum(shard.output not in names for shard in every)
    summary.seconds = time.perf_counter() - start
    return summary


def summarize(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]
) -> Summary:
    """How far the work on all shards is, by what is in the folder; nothing is scored.

    Raises:
        ConfigError: an argument is wrong.
        DatasetError: there are no such shards.
    """
    need("pyarrow.parquet", "shards")
    every, folder = shards_in(inputs), Folder(output)
    names = folder.names()
    summary = Summary(shards=len(every))
    for shard in every:
        counts = counts_in(folder, shard, None) if shard.output in names else None
        if counts is not None:
            summary.take(shard.name, counts, now=False)
        elif shard.failed in names:
            summary.failed[shard.name] = failure_in(folder, shard)
    summary.left = summary.shards - summary.done
    return summary


def _score(
    shards: Sequence[Shard], folder: Folder, layout: Layout, scorer: Any, progress: Progress
) -> Summary:
    summary = Summary(shards=len(shards))
    worker = Worker(made(scorer), folder, layout)
    names = folder.names()
    with reporting(progress, "shard", patience=0.0, leave=True) as report:
        for number, shard in enumerate(shards):
            counts = counts_in(folder, shard, worker.settings) if shard.output in names else None
            now = counts is None
            if counts is None:
                counts = worker.score(shard)
            summary.take(shard.name, counts, now)
            if report is not None:
                report(number + 1, len(shards), computed=now)
    return summary


def _layout(given: dict[str, Any]) -> Layout:
    unknown = sorted(set(given) - set(Layout.__dataclass_fields__))
    if unknown:
        raise ConfigError(
            f"{unknown[0]!r} is not an option of score_shards; those for shards are "
            + ", ".join(Layout.__dataclass_fields__)
        )
    return Layout(**given)
