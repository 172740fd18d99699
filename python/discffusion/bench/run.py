"""The benchmark as a whole."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from discffusion import hub
from discffusion.bench.accounting import Accounting, latent_multiple
from discffusion.bench.clock import Clock
from discffusion.bench.implementations import OURS, Implementation, ModelSpec, load_others
from discffusion.bench.implementations.ours import Ours
from discffusion.bench.machine import busy, commit, describe_machine, versions
from discffusion.bench.memory import measure_memory, weight_bytes
from discffusion.bench.options import Options
from discffusion.bench.report import BenchReport
from discffusion.bench.runner import compare
from discffusion.bench.settings import make_settings
from discffusion.bench.workloads import Workload, draw
from discffusion.errors import InstallationError

if TYPE_CHECKING:
    import os

    from discffusion.bench.implementations.diffusers_best import DiffusersBest

__all__ = ["bench"]

_BATCHED = "diffusers-batched"
# The largest batch that is tried for diffusers, in evaluations; at least that of the phases.
_LARGEST_BATCH, _PHASES_BATCH = 256, 64
# Timesteps of the score whose memory is measured: more add nothing but time.
_MEMORY_STEPS = 4
# What a repeat of all phases takes at most, in terms of one score.
_PHASES_TO_SCORE = 20


def bench(
    model: str | os.PathLike[str] | None = None,
    options: Options | None = None,
    *,
    revision: str | None = None,
    variant: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    say: Callable[[str], None] = lambda _: None,
    keep: Callable[[BenchReport], object] = lambda _: None,
) -> BenchReport:
    """Measures this package against the released algorithm and against diffusers, in one process, in turns.

    Args:
        model, revision, variant, device, dtype: as of :class:`discffusion.Scorer`.
        say: told what is being measured, in a line.
        keep: given the report as far as it is, whenever something was added.

    Raises:
        DisagreementError: an implementation computes other scores.
        InstallationError: diffusers or transformers is missing.
    """
    started = time.perf_counter()
    options = Options() if options is None else options
    folder, name = hub.resolve(model, revision=revision, variant=variant)
    say(f"loading {name}")

    def keep_timed(report: BenchReport) -> None:
        report.seconds = time.perf_counter() - started
        keep(report)

    run = _Run(ModelSpec(folder, variant, device, dtype), options, say, keep_timed)
    report = BenchReport(run.about(name))
    report.warnings += [warning for warning in (busy(run.machine), run.uncounted) if warning is not None]
    for part in options.all_parts():
        getattr(run, part)(report)
        keep_timed(report)
    return report


class _Run:
    """The implementations, loaded once, and what is measured on them: a method for each part of the options."""

    def __init__(
        self,
        spec: ModelSpec,
        options: Options,
        say: Callable[[str], None],
        keep: Callable[[BenchReport], None],
    ) -> None:
        import torch

        self.keep = keep
        self.options, self.say, self.repeats = options, say, options.timing()
        self.threads = options.threads or torch.get_num_threads()
        torch.set_num_threads(self.threads)
        self.machine = describe_machine(self.threads)  # before there is any load of ours
        self.ours = Ours(spec)
        scorer = self.ours.scorer
        self.spec = ModelSpec(spec.folder, spec.variant, scorer.device, scorer.dtype)
        self.clock = Clock(options.clock, scorer.device)
        self.workloads = options.implementations()
        self.others: dict[str, Implementation] = load_others(
            self.spec, [name for names in self.workloads.values() for name in names]
        )
        self.settings = make_settings(scorer, options.steps, options.resolution, options.method, options.map)
        self.accounting, self.uncounted = self._accounting()
        largest = max(workload.pairs for workload in self.workloads) * self.settings.steps
        for name, implementation in self.others.items():
            say(f"readying {name}")
            implementation.tune(self.settings, min(max(largest, _PHASES_BATCH), _LARGEST_BATCH), self.clock)

    def _accounting(self) -> tuple[Accounting | None, str | None]:
        """What is counted on the modules of diffusers; or, where that is not installed, what is lacking then."""
        try:
            return Accounting.of(self.spec.folder, self.settings.resolution), None
        except InstallationError as error:
            return None, f"operations are not counted, so there is no part peak: {error}"

    @property
    def diffusers(self) -> DiffusersBest | None:
        batched: DiffusersBest | None = self.others.get(_BATCHED)  # type: ignore[assignment]
        return batched

    def requests(self, report: BenchReport) -> None:
        for workload, names in self.workloads.items():
            self.say(f"requests of {workload}")
            comparison = compare(
                {OURS: self.ours, **{name: self.others[name] for name in names}},
                workload,
                self.settings,
                repeats=self.repeats,
                clock=self.clock,
                dtype=self.spec.dtype,
                accounting=self.accounting,
                before=self._same_threads,
            )
            report.comparisons.append(comparison)
            self.keep(report)

    def phases(self, report: BenchReport) -> None:
        from discffusion.bench.phases import measure_operators, measure_phases

        self.say("phases")
        timing: dict[str, Any] = {"repeats": self._few(), "before": self._same_threads}
        report.phases = measure_phases(self.ours, self.diffusers, self.settings, clock=self.clock, **timing)
        if not self.spec.device.startswith("cuda"):
            report.operators = measure_operators(self.ours, self.settings, **timing)

    def peak(self, report: BenchReport) -> None:
        from discffusion.bench.peak import measure_peak

        if self.accounting is None:
            return
        self.say("fraction of the machine's rate")
        report.peak = measure_peak(
            self.ours,
            {} if self.diffusers is None else {_BATCHED: self.diffusers},
            self.settings,
            self.accounting,
            repeats=self._few(),
            clock=self.clock,
            before=self._same_threads,
        )

    def memory(self, report: BenchReport) -> None:
        # One pair makes no batch, so of implementations that differ in batches alone one will do.
        names = [OURS, *(name for name in ("released-1", _BATCHED) if name in self.others)]
        choices = {name: {OURS: self.ours, **self.others}[name].about for name in names}
        for state in ("warm", "cold"):
            self.say(f"memory and time to the first score, {state}")
            report.memory[state] = measure_memory(
                choices,
                self.spec,
                threads=self.threads,
                steps=min(self.settings.steps, _MEMORY_STEPS),
                resolution=self.settings.resolution,
                cold=state == "cold",
            )

    def growth(self, report: BenchReport) -> None:
        from discffusion.bench.growth import SIZES, measure_growth, resolutions

        self.say("growth")
        unit = int(self.ours.scorer.info()["vae_scale_factor"]) * latent_multiple(self.spec.folder)
        report.growth = measure_growth(
            {OURS: self.ours, **({} if self.diffusers is None else {_BATCHED: self.diffusers})},
            self.ours,
            self.settings,
            {**SIZES, "resolution": resolutions(self.settings.resolution, unit)},
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
                "files": weight_bytes(self.spec.folder),
                "loaded": self.ours.scorer.memory()["weights"],
            },
            "device": self.spec.device,
            "dtype": self.spec.dtype,
            "method": self.settings.method,
            "map": self.settings.map,
            "steps": self.settings.steps,
            "timesteps": list(self.settings.timesteps),
            "resolution": self.settings.resolution,
            "clock": self.clock.name,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": {**self.machine, "gpu": _gpu(self.spec.device)},
            "versions": versions(),
            "implementations": {name: one.about for name, one in {OURS: self.ours, **self.others}.items()},
        }

    def _same_threads(self) -> None:
        """Before each timing: as many threads for one as for another, whatever the last may have set."""
        import torch

        torch.set_num_threads(self.threads)

    def _few(self) -> int:
        """How often phases are timed, by the time of one score."""
        own = draw(Workload(1, 1), self.settings.resolution)
        one = self.clock.time(lambda: self.ours.matrix(own.images, own.texts, self.settings))
        return self.repeats.of(_PHASES_TO_SCORE * one)


def _gpu(device: str) -> str | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return str(torch.cuda.get_device_name(device))
