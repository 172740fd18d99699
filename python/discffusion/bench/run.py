"""The benchmark as a whole."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from discffusion import hub
from discffusion.bench.accounting import Accounting
from discffusion.bench.clock import Clock
from discffusion.bench.machine import busy, commit, describe_machine, versions
from discffusion.bench.memory import measure_memory, weight_bytes
from discffusion.bench.options import Options
from discffusion.bench.report import Report
from discffusion.bench.runner import compare
from discffusion.bench.sides import OURS, Place, Side, all_sides
from discffusion.bench.sides.ours import Ours
from discffusion.bench.workloads import Workload, draw, make_terms

if TYPE_CHECKING:
    import os

    from discffusion.bench.sides.diffusers_best import DiffusersBest

__all__ = ["bench"]

_BATCHED = "diffusers-batched"
# The largest batch that is tried for diffusers, in evaluations; at least that of the stages.
_LARGEST_BATCH, _STAGES_BATCH = 256, 64
# Timesteps of the score whose memory is measured: more add nothing but time.
_MEMORY_STEPS = 4
# What a repeat of all stages takes at most, in terms of one score.
_STAGES_TO_SCORE = 20


def bench(
    model: str | os.PathLike[str] | None = None,
    options: Options | None = None,
    *,
    revision: str | None = None,
    variant: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    say: Callable[[str], None] = lambda _: None,
    keep: Callable[[Report], object] = lambda _: None,
) -> Report:
    """Measures this package against the released algorithm and against diffusers, in one process, in turns.

    Args:
        model, revision, variant, device, dtype: as of :class:`discffusion.Scorer`.
        say: told what is being measured, in a line.
        keep: given the report as far as it is, whenever something was added.

    Raises:
        DisagreementError: a side computes other scores.
        InstallationError: diffusers or transformers is missing.
    """
    started = time.perf_counter()
    options = Options() if options is None else options
    folder, name = hub.resolve(model, revision=revision, variant=variant)
    say(f"loading {name}")

    def keep_timed(report: Report) -> None:
        report.seconds = time.perf_counter() - started
        keep(report)

    run = _Run(Place(folder, variant, device, dtype), options, say, keep_timed)
    report = Report(run.about(name))
    warning = busy(run.machine)
    report.warnings += [] if warning is None else [warning]
    for part in options.all_parts():
        getattr(run, part)(report)
        keep_timed(report)
    return report


class _Run:
    """The sides, loaded once, and what is measured on them: a method for each part of the options."""

    def __init__(
        self, place: Place, options: Options, say: Callable[[str], None], keep: Callable[[Report], None]
    ) -> None:
        import torch

        self.keep = keep
        self.options, self.say, self.repeats = options, say, options.timing()
        self.threads = options.threads or torch.get_num_threads()
        torch.set_num_threads(self.threads)
        self.machine = describe_machine(self.threads)  # before there is any load of ours
        self.ours = Ours(place)
        scorer = self.ours.scorer
        self.place = Place(place.folder, place.variant, scorer.device, scorer.dtype)
        self.clock = Clock(options.clock, scorer.device)
        self.workloads = options.sides()
        self.others: dict[str, Side] = all_sides(
            self.place, [name for names in self.workloads.values() for name in names]
        )
        self.terms = make_terms(scorer, options.steps, options.resolution, options.method, options.map)
        self.accounting = Accounting.of(place.folder, self.terms.resolution)
        largest = max(workload.pairs for workload in self.workloads) * self.terms.steps
        for name, side in self.others.items():
            say(f"readying {name}")
            side.tune(self.terms, min(max(largest, _STAGES_BATCH), _LARGEST_BATCH), self.clock)

    @property
    def diffusers(self) -> DiffusersBest | None:
        found: DiffusersBest | None = self.others.get(_BATCHED)  # type: ignore[assignment]
        return found

    def requests(self, report: Report) -> None:
        for workload, names in self.workloads.items():
            self.say(f"requests of {workload}")
            found = compare(
                {OURS: self.ours, **{name: self.others[name] for name in names}},
                workload,
                self.terms,
                repeats=self.repeats,
                clock=self.clock,
                dtype=self.place.dtype,
                accounting=self.accounting,
                before=self._same_threads,
            )
            report.comparisons.append(found)
            self.keep(report)

    def stages(self, report: Report) -> None:
        from discffusion.bench.stages import measure_operators, measure_stages

        self.say("stages")
        timing: dict[str, Any] = {"repeats": self._few(), "before": self._same_threads}
        report.stages = measure_stages(self.ours, self.diffusers, self.terms, clock=self.clock, **timing)
        if not self.place.device.startswith("cuda"):
            report.operators = measure_operators(self.ours, self.terms, **timing)

    def peak(self, report: Report) -> None:
        from discffusion.bench.peak import measure_peak

        self.say("fraction of the machine's rate")
        report.peak = measure_peak(
            self.ours,
            {} if self.diffusers is None else {_BATCHED: self.diffusers},
            self.terms,
            self.accounting,
            repeats=self._few(),
            clock=self.clock,
            before=self._same_threads,
        )

    def memory(self, report: Report) -> None:
        # One pair makes no batch, so of sides that differ in batches alone one will do.
        names = [OURS, *(name for name in ("released-1", _BATCHED) if name in self.others)]
        choices = {name: {OURS: self.ours, **self.others}[name].about for name in names}
        for state in ("warm", "cold"):
            self.say(f"memory and time to the first score, {state}")
            report.memory[state] = measure_memory(
                choices,
                self.place,
                threads=self.threads,
                steps=min(self.terms.steps, _MEMORY_STEPS),
                resolution=self.terms.resolution,
                cold=state == "cold",
            )

    def growth(self, report: Report) -> None:
        from discffusion.bench.growth import SIZES, measure_growth, resolutions

        self.say("growth")
        unit = int(self.ours.scorer.info()["vae_scale_factor"]) * self.accounting.unet.shrinks
        report.growth = measure_growth(
            {OURS: self.ours, **({} if self.diffusers is None else {_BATCHED: self.diffusers})},
            self.ours,
            self.terms,
            {**SIZES, "resolution": resolutions(self.terms.resolution, unit)},
            repeats=self.repeats.number or self.repeats.least,
            clock=self.clock,
            before=self._same_threads,
        )

    def about(self, name: str) -> dict[str, Any]:
        """What the figures belong to."""
        info = self.ours.scorer.info()
        return {
            "model": name,
            "fingerprint": info["fingerprint"],
            "parameters": info["num_parameters"],
            "weights": {
                "files": weight_bytes(self.place.folder),
                "loaded": self.ours.scorer.memory()["weights"],
            },
            "device": self.place.device,
            "dtype": self.place.dtype,
            "method": self.terms.method,
            "map": self.terms.map,
            "steps": self.terms.steps,
            "timesteps": list(self.terms.timesteps),
            "resolution": self.terms.resolution,
            "clock": self.clock.name,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": {**self.machine, "gpu": _gpu(self.place.device)},
            "versions": versions(),
            "sides": {name: side.about for name, side in {OURS: self.ours, **self.others}.items()},
        }

    def _same_threads(self) -> None:
        """Before each timing: as many threads for one as for another, whatever the last may have set."""
        import torch

        torch.set_num_threads(self.threads)

    def _few(self) -> int:
        """How often stages are timed, by the time of one score."""
        own = draw(Workload(1, 1), self.terms.resolution)
        one = self.clock.time(lambda: self.ours.matrix(own.images, own.texts, self.terms))
        return self.repeats.of(_STAGES_TO_SCORE * one)


def _gpu(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return str(torch.cuda.get_device_name(device))
