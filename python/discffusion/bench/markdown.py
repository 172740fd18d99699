"""A benchmark's report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from discffusion._markdown import table
from discffusion.bench.implementations import IMPLEMENTATIONS, OURS
from discffusion.bench.options import MAPS
from discffusion.bench.phases import ENCODING

if TYPE_CHECKING:
    from discffusion.bench.growth import Growth
    from discffusion.bench.memory import Footprint
    from discffusion.bench.peak import Peak
    from discffusion.bench.phases import Phases
    from discffusion.bench.report import BenchReport
    from discffusion.bench.runner import Comparison

__all__ = ["document"]

_PHASES = {
    "decode": "decode and resize a picture",
    "image": "VAE, one picture",
    "text": "text encoder, one text",
    "unet": "UNet, {rows} evaluations without maps",
    "logits": "the same, logits of all layers pooled",
    "probs": "the same, probabilities pooled",
    "cosine": "the same, cosines pooled",
}


def document(report: BenchReport) -> str:
    """All parts that the report has."""
    parts = [_head(report)]
    if report.comparisons:
        parts.append(_comparisons(report.comparisons))
    if report.phases is not None:
        parts.append(_phases(report.phases))
    if report.operators is not None:
        operators = report.operators
        parts.append(
            f"One score took {duration(operators['whole']['median'])} under torch's profiler, "
            f"{operators['ratio']:.2f} times the sum of its {operators['count']} operators (least "
            f"{operators['least_ratio']:.2f})."
        )
    if report.peak is not None:
        parts.append(_peak(report.peak))
    if report.memory:
        parts += [
            _memory(state, footprints, report.about["weights"]) for state, footprints in report.memory.items()
        ]
    if report.growth is not None:
        parts.append(_growth(report.growth))
    return "\n\n".join(parts) + "\n"


def _head(report: BenchReport) -> str:
    about = report.about
    machine, versions = about["machine"], about["versions"]
    used = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    memory = f", {machine['memory'] / 2**30:.0f} GiB" if machine["memory"] else ""
    lines = [
        f"# Benchmark of {about['model']}",
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads{memory}{gpu}; "
        f"{machine['system']}",
        f"- Versions: {used}, Python {machine['python']}"
        + (f"; commit {about['commit']}" if about["commit"] else ""),
        f"- Computed: {about['method']}, map {about['map']}, all layers, {about['steps']} timesteps, "
        f"{about['resolution']} pixels, {about['dtype']} on {about['device']}",
        f"- Measured on {about['date']} in {report.seconds:.0f} s, {about['clock']} clock",
    ]
    for name, choices in about["implementations"].items():
        said = ", ".join(f"{key} {_plain(value)}" for key, value in choices.items())
        lines.append(f"- {name}: {IMPLEMENTATIONS[name]}" + (f" ({said})" if said else ""))
    return "\n".join([*lines, *(f"- Note: {warning}" for warning in report.warnings)])


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    rows = []
    for comparison in comparisons:
        ours = comparison.flops.get(OURS)
        for name, times in comparison.times.items():
            work = comparison.flops.get(name)
            rows.append(
                [
                    str(comparison.workload) if name == OURS else "",
                    name,
                    duration(times.median),
                    duration(times.minimum),
                    "" if name == OURS else f"**{comparison.ratio(name):.2f}×**",
                    "" if name == OURS else f"{comparison.ratio(name, 'minimum'):.2f}×",
                    f"{work / ours:.2f}×" if work and ours and name != OURS else "",
                    "" if name == OURS else f"{comparison.apart.get(name, 0.0):.0e}",
                ]
            )
        rows += [
            ["", name, "not measured: " + why, "", "", "", "", ""]
            for name, why in comparison.left_out.items()
        ]
    names = [
        "images×texts",
        "implementation",
        "median",
        "least",
        "longer",
        "of least",
        "counted work",
        "scores apart",
    ]
    return (
        "## Whole requests\n\nFrom encoded pictures and texts to scores, in turns. «Longer» is how many times the time "
        "of this package, by medians and by the least times; «counted work» is the ratio of arithmetic alone.\n\n"
        + table(names, rows, padded=False)
    )


def _phases(phases: Phases) -> str:
    names = list(phases.times)
    rows = []
    for phase, title in _PHASES.items():
        row = [title.format(rows=phases.rows)]
        for implementation in names:
            text = duration(phases.times[implementation][phase].median)
            if phase in MAPS:
                more, least = (
                    100 * phases.overhead(implementation, phase, of) for of in ("median", "minimum")
                )
                text += f" ({more:+.1f} %, least {least:+.1f} %)"
            row.append(text)
        if len(names) > 1:
            ours, theirs = (phases.times[implementation][phase].median for implementation in names)
            row.append(f"{theirs / ours:.2f}×")
        rows.append(row)
    assert set(_PHASES) == {*ENCODING, "unet", *MAPS}
    return "## Phases\n\nMedians.\n\n" + table(
        ["phase", *names, *(["longer"] if len(names) > 1 else [])], rows, padded=False
    )


def _peak(peak: Peak) -> str:
    best = peak.gemm_rate("minimum")
    rows = [
        [
            implementation,
            duration(times.median / peak.rows),
            f"{peak.flops / times.median / 1e9:,.0f}",
            f"**{100 * peak.fraction(implementation):.1f} %**",
            f"{100 * peak.fraction(implementation, 'minimum'):.1f} %",
        ]
        for implementation, times in peak.unet.items()
    ]
    return (
        f"## Fraction of the machine's rate\n\nBest matrix product of the network's sizes: "
        f"{peak.gemm_rate() / 1e9:,.0f} GFLOP/s by medians, {best / 1e9:,.0f} at best. The UNet does "
        f"{peak.flops / peak.rows / 1e9:,.4g} GFLOP in an evaluation; {peak.rows} evaluations without maps:\n\n"
        + table(
            ["implementation", "an evaluation", "GFLOP/s", "of the product's rate", "least with least"],
            rows,
            padded=False,
        )
    )


def _memory(state: str, footprints: dict[str, Footprint], weights: dict[str, int]) -> str:
    gpu = ["GPU peak"] if any(one.gpu_peak for one in footprints.values()) else []
    rows = [
        [
            implementation,
            size(one.peak),
            size(one.private),
            *(size(one.gpu_peak) if one.gpu_peak else "" for _ in gpu),
            duration(one.imported),
            duration(one.loaded),
            duration(one.scored),
            duration(one.to_first_score),
            size(one.read),
            size(one.fetched),
        ]
        for implementation, one in footprints.items()
    ]
    how = "put out of the system's cache first" if state == "cold" else "in the system's cache"
    names = [
        "implementation",
        "peak",
        "private",
        *gpu,
        "import",
        "load",
        "first score",
        "together",
        "read",
        "from disk",
    ]
    text = (
        f"Each implementation in a process of its own; the weights' files, {size(weights['files'])}, {how}. "
        f"Loaded, what a score needs of them takes {size(weights['loaded'])}. «Peak» counts mapped files, «private» "
        "does not."
    )
    return f"## Memory and time to the first score, {state}\n\n{text}\n\n" + table(names, rows, padded=False)


def _growth(growth: Growth) -> str:
    parts = ["## Growth\n\nMedians; a straight line through them for what is linear."]
    for what, sizes in growth.sizes.items():
        rows = []
        for implementation, times in growth.times[what].items():
            row = [implementation, *(duration(one.median) for one in times)]
            if what != "resolution":
                fixed, each = growth.line(what, implementation)
                row.append(f"{duration(fixed)} + {duration(each)} each")
            rows.append(row)
        last = [] if what == "resolution" else ["line"]
        parts.append(table([what, *(str(one) for one in sizes), *last], rows, padded=False))
    return "\n\n".join(parts)


def duration(seconds: float) -> str:
    """As ``12.3 ms`` or ``4.56 s``."""
    if abs(seconds) < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if abs(seconds) < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if abs(seconds) < 1000 else f"{seconds:.0f} s"


def size(count: int) -> str:
    """Bytes as ``12 MiB`` or ``1.23 GiB``."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    return str(value)
