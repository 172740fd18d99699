"""Where the time goes: each stage of a score, what pooling adds to the UNet, and what the operators leave."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from discffusion import _native
from discffusion.bench.clock import Clock, Times, in_turns
from discffusion.bench.options import MAPS
from discffusion.bench.sides import OURS
from discffusion.bench.sides.ours import Ours
from discffusion.bench.sides.parts import TEXT, evaluation_terms, less_encoders, own_parts
from discffusion.bench.workloads import Terms, Workload, draw

if TYPE_CHECKING:
    from discffusion.bench.sides.diffusers_best import DiffusersBest

__all__ = ["ENCODING", "Stages", "measure_operators", "measure_stages"]

#: the stages before the UNet
ENCODING = ("decode", "image", "text")


@dataclass
class Stages:
    """Times by side.

    Attributes:
        times: by side and stage: ``decode`` (decoding and resizing one picture), ``image`` (the VAE, one picture),
            ``text`` (one text), ``unet`` (evaluations without any map), and the same evaluations with pooled maps of
            all layers: ``logits``, ``probs``, ``cosine``.
        rows: evaluations of the UNet in one timing.
    """

    times: dict[str, dict[str, Times]]
    rows: int

    def overhead(self, side: str, map: str, of: str = "median") -> float:
        """What pooling a map of all layers adds, as a share of the evaluations without; 0.03 is three per cent."""
        own = self.times[side]
        return float(getattr(own[map], of) / getattr(own["unet"], of) - 1)

    def to_dict(self) -> dict[str, Any]:
        return {
            "evaluations": self.rows,
            "sides": {
                side: {
                    "stages": {stage: found.to_dict() for stage, found in stages.items()},
                    "overhead": {name: self.overhead(side, name) for name in MAPS},
                    "overhead_of_minima": {name: self.overhead(side, name, "minimum") for name in MAPS},
                }
                for side, stages in self.times.items()
            },
        }


def measure_stages(
    ours: Ours,
    diffusers: DiffusersBest | None,
    terms: Terms,
    *,
    repeats: int,
    clock: Clock,
    before: Callable[[], None] = lambda: None,
) -> Stages:
    """All stages of our side and of diffusers' in turns."""
    on = evaluation_terms(ours, terms)
    side = on.resolution
    file = draw(Workload(1, 1), side).images[0]
    core = _native.core()
    forms: dict[str, dict[str, Any]] = {"unet": {}}
    # With the denoising error, so that the whole network is run with and without a map.
    forms |= {name: {"method": "combined", "map": name} for name in MAPS}
    runs: dict[str, Callable[[int], Any]] = {
        "ours: decode": lambda _: core.preprocess_image(file, side, side, None, "squash"),
        **own_parts(ours, on, forms),
    }
    if diffusers is not None:
        modules, evaluations = diffusers.modules, diffusers.evaluations(on)
        picture = modules.pixels(file, side)[None]
        runs |= {
            "theirs: decode": lambda _: modules.pixels(file, side),
            "theirs: image": lambda _: modules.encode_images(picture),
            "theirs: text": lambda _: modules.encode_texts([TEXT]),
            **{f"theirs: {name}": evaluations for name in ("unet", *MAPS)},
        }

    def ready(name: str) -> None:
        before()
        whose, _, stage = name.partition(": ")
        if whose == "theirs" and diffusers is not None:
            diffusers.prepare_evaluations(stage if stage in MAPS else None)

    in_turns(runs, 1, clock, before=ready)  # does not count
    times = in_turns(runs, repeats, clock, before=ready)
    found = {OURS: {stage: times[f"ours: {stage}"] for stage in ENCODING}}
    found[OURS] |= {name: less_encoders(times, name) for name in forms}
    if diffusers is not None:
        found["diffusers-batched"] = {name: times[f"theirs: {name}"] for name in (*ENCODING, *forms)}
    return Stages(found, on.steps)


def measure_operators(
    ours: Ours, terms: Terms, *, repeats: int, before: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """One score of one picture and text, and the time of torch's operators in it, both by the wall clock of one run.

    What is above their sum is spent between them: decoding, tokens, the core's own work, and a few per cent of torch's
    profiler. For the CPU.
    """
    import torch

    # Without a GPU the profiler of a CUDA build complains on stderr.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    draws = [draw(Workload(1, 1), terms.resolution, number) for number in range(repeats + 1)]
    clock, whole, operators, count = Clock(), Times(), Times(), 0
    for number, own in enumerate(draws):
        before()
        with torch.autograd.profiler.profile() as profile:
            seconds = clock.time(lambda own=own: ours.matrix(own.images, own.texts, terms))  # type: ignore[misc]
        if number == 0:
            continue  # the profiler's own start
        outermost = [event for event in profile.function_events if event.cpu_parent is None]
        whole.seconds.append(seconds)
        operators.seconds.append(sum(event.cpu_time_total for event in outermost) / 1e6)
        count = len(outermost)
    ratios = [a / b for a, b in zip(whole.seconds, operators.seconds, strict=True)]
    return {
        "whole": whole.to_dict(),
        "operators": operators.to_dict(),
        "count": count,
        "ratio": statistics.median(ratios),
        "least_ratio": min(ratios),
    }
