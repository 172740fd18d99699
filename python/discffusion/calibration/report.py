"""What a calibration was fitted to and what it is worth, as plain data and as tables in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from discffusion._markdown import cell, table

if TYPE_CHECKING:
    from discffusion.calibration.fitting import Fitted
    from discffusion.calibration.observing import Observed

__all__ = ["in_markdown", "report_of"]


def report_of(
    fitted: Fitted, observed: Observed, over: Collection[str], seed: int, notes: Sequence[str]
) -> dict[str, Any]:
    """What was fitted to what.

    Returns:
        ``model`` is the one chosen, ``candidates`` are all that were compared; ``before`` and ``after`` are accuracies
        with 95 % intervals, as :class:`~discffusion.evaluation.Estimate` has them; ``ece`` and ``brier`` judge the
        probabilities of pairs that neither weights nor curve have seen; ``items``, ``pairs``, ``comparisons`` and
        ``groups`` (of images) are numbers, ``data`` and ``digest`` name the items and stand for their content.
    """
    numbers = observed.observations
    return {
        "model": fitted.model,
        "before": fitted.before.to_dict(),
        "after": fitted.after.to_dict(),
        "ece": fitted.reliability.ece,
        "brier": fitted.reliability.brier,
        "candidates": [asdict(candidate) for candidate in fitted.candidates],
        "items": observed.items,
        "pairs": len(numbers.labels),
        "comparisons": len(numbers.groups),
        "groups": len(np.unique(numbers.groups)),
        "data": observed.name,
        "digest": observed.digest,
        "over": sorted(over),
        "seed": seed,
        "notes": list(notes),
    }


def in_markdown(report: Mapping[str, Any]) -> str:
    """Two tables and the notes: what the calibration is worth, and the models that were compared."""
    from discffusion.evaluation.estimate import Estimate

    worth = [
        ["accuracy before", str(Estimate(**report["before"]))],
        ["accuracy after", str(Estimate(**report["after"]))],
        ["calibration error", f"{report['ece']:.4f}"],
        ["Brier score", f"{report['brier']:.4f}"],
        [
            "fitted to",
            f"{report['items']} items, {report['comparisons']} comparisons ({cell(report['data'])})",
        ],
    ]
    # a pruned model has the name of the one that it is made of, and comes after it
    last = max(place for place, each in enumerate(report["candidates"]) if each["name"] == report["model"])
    compared = [
        [
            each["name"] + (", pruned" if each["pruned"] else ""),
            cell(each["map"]),
            "" if each["ridge"] is None else f"{each['ridge']:.3g}",
            f"{each['accuracy']:.2%}",
            "yes" if place == last else "",
        ]
        for place, each in enumerate(report["candidates"])
    ]
    parts = [
        table(("calibration", "value"), worth),
        table(("model", "map", "ridge", "accuracy", "chosen"), compared, right=("ridge", "accuracy")),
    ]
    if report["notes"]:
        parts.append("\n".join(f"- {note}" for note in report["notes"]))
    return "\n\n".join(parts)
