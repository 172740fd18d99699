"""Shards handed out by Ray Data to one actor a device.

An actor that dies is started again and its shard is scored again; finished ones are found finished. What flows through
Ray is the names of shards and their counts, never pixels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from discffusion import errors
from discffusion._extras import need
from discffusion.errors import ConfigError, DiscffusionError
from discffusion.shards.inputs import Shard
from discffusion.shards.layout import Layout
from discffusion.shards.places import Folder
from discffusion.shards.summary import Summary
from discffusion.shards.worker import Worker, counts_in, made, makes_one

__all__ = ["score_on_ray"]

# Of more blocks than this Ray itself gets slow; then a block has several shards.
_BLOCKS = 10_000


class Actor:
    """Scores shards in a process of Ray. Errors of this package are told to the caller, not tried again."""

    def __init__(self, scorer: Any, output: str, layout: Layout) -> None:
        self._scorer, self._output, self._layout = scorer, Folder(output), layout
        self._worker: Worker | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        shard = Shard(row["name"], row["address"])
        try:
            counts, now = self._score(shard)
        except DiscffusionError as error:
            kind = next(kind for kind in type(error).__mro__ if kind.__name__ in errors.__all__)
            counts, now = {"raised": [kind.__name__, str(error)]}, True
        return {"name": shard.name, "counts": json.dumps(counts), "now": now}

    def _score(self, shard: Shard) -> tuple[dict[str, Any], bool]:
        if self._worker is None:
            self._worker = Worker(made(self._scorer), self._output, self._layout)
        # it may be finished: before this run, or by an actor that died before it could say so
        if self._output.has(shard.output):
            counts_before = counts_in(self._output, shard, self._worker.settings)
            if counts_before is not None:
                return counts_before, False
        return self._worker.score(shard), True


def score_on_ray(
    shards: Sequence[Shard], output: str, layout: Layout, scorer: Any, actors: int | tuple[int, int] | None
) -> Summary:
    """Scores the shards with as many actors; see :func:`discffusion.shards.score_shards`.

    Raises:
        ConfigError: the scorer is an object, which cannot be sent, or the number of actors is none.
        DiscffusionError: of an actor, or Ray fails.
    """
    if scorer is not None and not makes_one(scorer):
        raise ConfigError(
            f"scorer is {type(scorer).__name__}; on Ray each actor makes its own: give a function that makes one, as "
            "lambda: Scorer(steps=10)"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent behind the user's back
    ray = need("ray", "ray")
    data = need("ray.data", "ray")
    if not ray.is_initialized():
        ray.init(include_dashboard=False, logging_level="warning")
    gpus = int(ray.cluster_resources().get("GPU", 0))
    fewest, most = _range(actors, gpus or int(ray.cluster_resources().get("CPU", 1)), len(shards))
    rows = [{"name": shard.name, "address": shard.address} for shard in shards]
    reports = data.from_items(rows, override_num_blocks=min(len(rows), _BLOCKS)).map(
        Actor,
        fn_constructor_args=(scorer, output, layout),
        compute=data.ActorPoolStrategy(min_size=fewest, max_size=most),
        num_cpus=1,
        num_gpus=1 if gpus else 0,
    )
    summary = Summary(shards=len(shards))
    try:
        for report in reports.iter_rows():
            counts = json.loads(report["counts"])
            if "raised" in counts:
                kind, message = counts["raised"]
                raise getattr(errors, kind)(f"shard {report['name']}: {message}")
            summary.take(report["name"], counts, bool(report["now"]))
    except ray.exceptions.RayError as error:
        raise DiscffusionError(f"Ray failed: {error}") from error
    return summary


def _range(actors: Any, devices: int, shards: int) -> tuple[int, int]:
    if actors is None:
        actors = min(devices, shards)
    low, high = actors if isinstance(actors, tuple) and len(actors) == 2 else (actors, actors)
    whole = all(isinstance(number, int) and not isinstance(number, bool) for number in (low, high))
    if not whole or not 1 <= low <= high:
        raise ConfigError(f"actors is {actors!r}; expected a number above 0, or the fewest and the most")
    return low, high
