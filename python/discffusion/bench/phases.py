"""Where the time goes: each phase of a score, what pooling adds to the UNet, and what the operators leave."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from discffusion import _native
from discffusion.bench.clock import Clock, Times, in_turns
from discffusion.bench.implementations import OURS
from discffusion.bench.implementations.ours import Ours
from discffusion.bench.implementations.parts import TEXT, evaluation_settings, less_encoders, own_parts
from discffusion.bench.options import MAPS
from discffusion.bench.settings import BenchSettings
from discffusion.bench.workloads import Workload, draw

if TYPE_CHECKING:
    from discffusion.bench.implementations.diffusers_best import DiffusersBest

__all__ = ["ENCODING", "Phases", "measure_operators", "measure_phases"]

#: the phases before the UNet
ENCODING = ("decode", "image", "text")


@dataclass
class Phases:
    """Times by implementation.

    Attributes:
        times: by implementation and phase: ``decode`` (decoding and resizing one picture), ``image`` (the VAE, one
            picture), ``text`` (one text), ``unet`` (evaluations without any map), and the same evaluations with pooled
            maps of all layers: ``logits``, ``probs``, ``cosine``.
        rows: evaluations of the UNet in one timing.
    """

    times: dict[str, dict[str, Times]]
    rows: int

    def overhead(self, implementation: str, map: str, of: str = "median") -> float:
        """What pooling a map of all layers adds, as a share of the evaluations without; 0.03 is three per cent."""
        own = self.times[implementation]
        return float(getattr(own[map], of) / getattr(own["unet"], of) - 1)

    def to_dict(self) -> dict[str, Any]:
        return {
            "evaluations": self.rows,
            "implementations": {
                implementation: {
                    "phases": {phase: times.to_dict() for phase, times in phases.items()},
                    "overhead": {name: self.overhead(implementation, name) for name in MAPS},
                    "overhead_of_minima": {
                        name: self.overhead(implementation, name, "minimum") for name in MAPS
                    },
                }
                for implementation, phases in self.times.items()
            },
        }


def measure_phases(
    ours: Ours,
    diffusers: DiffusersBest | None,
    settings: BenchSettings,
    *,
    repeats: int,
    clock: Clock,
    before: Callable[[], None] = lambda: None,
) -> Phases:
    """All phases of our implementation and of diffusers' in turns."""
    on = evaluation_settings(ours, settings)
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
        model, evaluations = diffusers.model, diffusers.evaluations(on)
        picture = model.pixels(file, side)[None]
        runs |= {
            "theirs: decode": lambda _: model.pixels(file, side),
            "theirs: image": lambda _: model.encode_images(picture),
            "theirs: text": lambda _: model.encode_texts([TEXT]),
            **{f"theirs: {name}": evaluations for name in ("unet", *MAPS)},
        }

    def ready(name: str) -> None:
        before()
        whose, _, phase = name.partition(": ")
        if whose == "theirs" and diffusers is not None:
            diffusers.prepare_evaluations(phase if phase in MAPS else None)

    in_turns(runs, 1, clock, before=ready)  # does not count
    times = in_turns(runs, repeats, clock, before=ready)
    by_name = {OURS: {phase: times[f"ours: {phase}"] for phase in ENCODING}}
    by_name[OURS] |= {name: less_encoders(times, name) for name in forms}
    if diffusers is not None:
        by_name["diffusers-batched"] = {name: times[f"theirs: {name}"] for name in (*ENCODING, *forms)}
    return Phases(by_name, on.steps)


def measure_operators(
    ours: Ours, settings: BenchSettings, *, repeats: int, before: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """One score of one picture and text, and the time of torch's operators in it, both by the wall clock of one run.

    What is above their sum is spent between them: decoding, tokens, the core's own work, and a few per cent of torch's
    profiler. For the CPU.
    """
    import torch

    # Without a GPU the profiler of a CUDA build complains on stderr.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    draws = [draw(Workload(1, 1), settings.resolution, number) for number in range(repeats + 1)]
    clock, whole, operators, count = Clock(), Times(), Times(), 0
    for number, own in enumerate(draws):
        before()
        with torch.autograd.profiler.profile() as profile:
            seconds = clock.time(lambda own=own: ours.matrix(own.images, own.texts, settings))  # type: ignore[misc]
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
