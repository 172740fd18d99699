"""A benchmark's report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from discffusion.bench.options import MAPS
from discffusion.bench.sides import OURS, SIDES
from discffusion.bench.stages import ENCODING

if TYPE_CHECKING:
    from discffusion.bench.growth import Growth
    from discffusion.bench.memory import Footprint
    from discffusion.bench.peak import Peak
    from discffusion.bench.report import Report
    from discffusion.bench.runner import Comparison
    from discffusion.bench.stages import Stages

__all__ = ["document"]

_STAGES = {
    "decode": "decode and resize a picture",
    "image": "VAE, one picture",
    "text": "text encoder, one text",
    "unet": "UNet, {rows} evaluations without maps",
    "logits": "the same, logits of all layers pooled",
    "probs": "the same, probabilities pooled",
    "cosine": "the same, cosines pooled",
}


def document(report: Report) -> str:
    """All parts that the report has."""
    parts = [_head(report)]
    if report.comparisons:
        parts.append(_comparisons(report.comparisons))
    if report.stages is not None:
        parts.append(_stages(report.stages))
    if report.operators is not None:
        found = report.operators
        parts.append(
            f"One score took {duration(found['whole']['median'])} under torch's profiler, {found['ratio']:.2f} times "
            f"the sum of its {found['count']} operators (least {found['least_ratio']:.2f})."
        )
    if report.peak is not None:
        parts.append(_peak(report.peak))
    if report.memory:
        parts += [_memory(state, found, report.about["weights"]) for state, found in report.memory.items()]
    if report.growth is not None:
        parts.append(_growth(report.growth))
    return "\n\n".join(parts) + "\n"


def _head(report: Report) -> str:
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
    for name, choices in about["sides"].items():
        said = ", ".join(f"{key} {_plain(value)}" for key, value in choices.items())
        lines.append(f"- {name}: {SIDES[name]}" + (f" ({said})" if said else ""))
    return "\n".join([*lines, *(f"- Note: {warning}" for warning in report.warnings)])


def _comparisons(found: Sequence[Comparison]) -> str:
    rows = []
    for comparison in found:
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
    names = ["images×texts", "side", "median", "least", "longer", "of least", "counted work", "scores apart"]
    return (
        "## Whole requests\n\nFrom encoded pictures and texts to scores, in turns. «Longer» is how many times the time "
        "of this package, by medians and by the least times; «counted work» is the ratio of arithmetic alone.\n\n"
        + _table(names, rows)
    )


def _stages(found: Stages) -> str:
    names = list(found.times)
    rows = []
    for stage, title in _STAGES.items():
        row = [title.format(rows=found.rows)]
        for side in names:
            text = duration(found.times[side][stage].median)
            if stage in MAPS:
                more, least = (100 * found.overhead(side, stage, of) for of in ("median", "minimum"))
                text += f" ({more:+.1f} %, least {least:+.1f} %)"
            row.append(text)
        if len(names) > 1:
            ours, theirs = (found.times[side][stage].median for side in names)
            row.append(f"{theirs / ours:.2f}×")
        rows.append(row)
    assert set(_STAGES) == {*ENCODING, "unet", *MAPS}
    return "## Stages\n\nMedians.\n\n" + _table(
        ["stage", *names, *(["longer"] if len(names) > 1 else [])], rows
    )


def _peak(found: Peak) -> str:
    best = found.gemm_rate("minimum")
    rows = [
        [
            side,
            duration(times.median / found.rows),
            f"{found.flops / times.median / 1e9:,.0f}",
            f"**{100 * found.fraction(side):.1f} %**",
            f"{100 * found.fraction(side, 'minimum'):.1f} %",
        ]
        for side, times in found.unet.items()
    ]
    return (
        f"## Fraction of the machine's rate\n\nBest matrix product of the network's sizes: "
        f"{found.gemm_rate() / 1e9:,.0f} GFLOP/s by medians, {best / 1e9:,.0f} at best. The UNet does "
        f"{found.flops / found.rows / 1e9:,.4g} GFLOP in an evaluation; {found.rows} evaluations without maps:\n\n"
        + _table(["side", "an evaluation", "GFLOP/s", "of the product's rate", "least with least"], rows)
    )


def _memory(state: str, found: dict[str, Footprint], weights: dict[str, int]) -> str:
    rows = [
        [
            side,
            size(one.peak),
            size(one.private),
            *([size(one.gpu_peak)] if one.gpu_peak else []),
            duration(one.imported),
            duration(one.loaded),
            duration(one.scored),
            duration(one.to_first_score),
            size(one.read),
            size(one.fetched),
        ]
        for side, one in found.items()
    ]
    gpu = ["GPU peak"] if any(one.gpu_peak for one in found.values()) else []
    how = "put out of the system's cache first" if state == "cold" else "in the system's cache"
    names = [
        "side",
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
        f"Each side in a process of its own; the weights' files, {size(weights['files'])}, {how}. Loaded, what a score "
        f"needs of them takes {size(weights['loaded'])}. «Peak» counts mapped files, «private» does not."
    )
    return f"## Memory and time to the first score, {state}\n\n{text}\n\n" + _table(names, rows)


def _growth(found: Growth) -> str:
    parts = ["## Growth\n\nMedians; a straight line through them for what is linear."]
    for what, sizes in found.sizes.items():
        rows = []
        for side, times in found.times[what].items():
            row = [side, *(duration(one.median) for one in times)]
            if what != "resolution":
                fixed, each = found.line(what, side)
                row.append(f"{duration(fixed)} + {duration(each)} each")
            rows.append(row)
        last = [] if what == "resolution" else ["line"]
        parts.append(_table([what, *(str(one) for one in sizes), *last], rows))
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


def _table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(names)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
