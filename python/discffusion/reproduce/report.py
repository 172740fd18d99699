"""The report of a run: ``report.md``, ``report.json`` and the plots beside them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discffusion._files import write_text
from discffusion._markdown import table
from discffusion.evaluation.estimate import Estimate
from discffusion.reproduce.markdown import section
from discffusion.reproduce.result import Result

if TYPE_CHECKING:
    from discffusion.reproduce.runner import ExperimentRunner

__all__ = ["facts", "markdown", "write"]


def facts(runner: ExperimentRunner, seconds: float) -> dict[str, Any]:
    """What identifies a run, plain data."""
    description = runner.base.describe()
    return {
        "package": "discffusion",
        "commit": _commit(),
        "model": description["model"],
        "fingerprint": description["fingerprint"],
        "device": description["device"],
        "dtype": description["dtype"],
        "versions": description["versions"],
        "data": {place: source.name for place, source in runner.sources.items()},
        "scale": runner.scale.name,
        "seeds": list(runner.seeds),
        "seconds": round(seconds, 1),
        "trainings": [
            {
                "recipe": recipe.name,
                "data": place,
                "seed": seed,
                "items": trained.items,
                "epochs": trained.epochs,
                "steps": len(trained.rows),
                "parameters": trained.deltas.num_parameters,
                "seconds": round(trained.seconds, 1),
            }
            for (recipe, place, seed), trained in runner.trainings.items()
        ],
        "calibrations": [
            {
                "recipe": key.recipe.name,
                "score": key.score,
                "training": None if key.training is None else key.training.name,
                "data": key.place,
                "seed": key.seed,
                "items": made.items,
                "digest": made.calibration.digest,
                **{
                    name: made.calibration.report[name]
                    for name in ("model", "before", "after", "ece", "brier")
                },
                "seconds": round(made.seconds, 1),
            }
            for key, made in runner.calibrations.items()
        ],
    }


def write(folder: Path, results: Sequence[Result], facts: dict[str, Any]) -> None:
    """Writes both files; a crash leaves the old ones or the new ones."""
    write_text(folder / "report.md", markdown(results, facts))
    everything = {**facts, "results": [result.to_dict() for result in results]}
    write_text(folder / "report.json", json.dumps(everything, indent=1, ensure_ascii=False) + "\n")


def markdown(results: Sequence[Result], facts: dict[str, Any]) -> str:
    """The whole report: what was run, what contradicts the paper, trainings, calibrations, every table and figure."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    data = ", ".join(dict.fromkeys(facts["data"].values()))
    lines = [
        "# The paper's tables and figures, measured",
        "",
        f"Model {facts['model']} ({facts['dtype']} on {facts['device']}), data {data}; scale {facts['scale']}, "
        f"seed{'s' if len(facts['seeds']) > 1 else ''} {', '.join(map(str, facts['seeds']))}; "
        f"{facts['seconds'] / 60:.1f} minutes of wall time for this run. {versions}"
        + (f"; commit {facts['commit']}." if facts["commit"] else "."),
        "",
        "The rows `attention` and `paper` are scored with these presets: the best attention score that was measured "
        "on the pocket model, and the one that follows the paper to the letter; rows `denoising` with "
        "the denoising error. Values are means over seeds; intervals "
        "take items as drawn at random and hold an item's images together, and do not speak of other seeds, models or "
        "data.",
        "",
        *_summary(results),
        *_trainings(facts["trainings"]),
        *_calibrations(facts["calibrations"]),
    ]
    return "\n".join(lines) + "\n" + "\n".join(section(result) for result in results)


def _summary(results: Sequence[Result]) -> list[str]:
    rows = [(result.name, verdict) for result in results for verdict in result.verdicts]
    gaps = [result for result in results if result.gap]
    lines = []
    if rows:
        counts: dict[str, int] = {}
        for _, verdict in rows:
            counts[verdict.answer] = counts.get(verdict.answer, 0) + 1
        lines += [
            "Claims of the paper: " + ", ".join(f"{n} {answer}" for answer, n in counts.items()) + ".",
            "",
        ]
    against = [(result.name, verdict) for result in results for verdict in result.contradicted]
    if against:
        lines.append("Contradicted here:")
        for name, verdict in against:
            lines.append(f"- {name}: {verdict.claim}" + (f" ({verdict.variant})" if verdict.variant else ""))
        lines.append("")
    if gaps:
        lines += ["Not measured:", *(f"- {result.name}: {result.gap}" for result in gaps), ""]
    return lines


def _trainings(trainings: Sequence[dict[str, Any]]) -> list[str]:
    if not trainings:
        return []
    return [
        "## Trainings",
        "",
        "Each was done once, for all tables that need it.",
        "",
        "| recipe | data | seed | items | epochs | steps | s |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {t['recipe']} | {t['data']} | {t['seed']} | {t['items']} | {t['epochs']} | {t['steps']} | "
            f"{t['seconds']:.0f} |"
            for t in trainings
        ),
        "",
    ]


def _calibrations(calibrations: Sequence[dict[str, Any]]) -> list[str]:
    if not calibrations:
        return []
    rows = [
        [
            c["recipe"],
            c["score"],
            c["training"] or "",
            c["data"],
            str(c["seed"]),
            str(c["items"]),
            c["model"],
            *(str(Estimate(**c[name])) for name in ("before", "after")),
            f"{c['ece']:.3f}",
            f"{c['seconds']:.0f}",
        ]
        for c in calibrations
    ]
    head = (
        "calibration",
        "of the score",
        "trained",
        "data",
        "seed",
        "items",
        "model",
        "before",
        "after",
        "ECE",
        "s",
    )
    return [
        "## Calibrations",
        "",
        "Each was fitted once, for all tables that need it, to the very items that a training has. Accuracies before "
        "and after and the calibration error (ECE) are of those items, held out of the fit; where deltas were trained "
        "on them too, all three are too good.",
        "",
        table(head, rows, padded=False),
        "",
    ]


def _commit() -> str | None:
    """The commit of the source tree that the package runs from; None if it is installed."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if git("ls-files", "--error-unmatch", str(here.parent / "__init__.py")) == "":
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
