"""What a calibration was fitted to and what it is worth, as plain data and as tables in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from discffusion._markdown import cell, table

if TYPE_CHECKING:
    from discffusion.calibration.fitting import Fitted
    from discffusion.calibration.observing import Observed

__all__ = ["in_markdown", "report_of"]


def report_of(
    fitted: Fitted, observed: Observed, validation: Observed | None, over: Collection[str], seed: int
) -> dict[str, Any]:
    """What was fitted to what.

    Returns:
        ``model`` is the one chosen, ``candidates`` are all that were compared; ``before`` and ``after`` are accuracies
        with 95 % intervals, as :class:`~discffusion.evaluation.Estimate` has them, and ``directions`` has both for
        ``"texts"`` of one image and for ``"images"`` of one text; ``ece`` and ``brier`` judge the
        probabilities of pairs that neither weights nor curve have seen; ``items``, ``pairs``, ``comparisons`` and
        ``groups`` (of images) are numbers, ``data`` and ``digest`` name the items and stand for their content, and
        ``validation`` has the same of the items that it was measured on, or is None after a cross-validation.
    """
    return {
        "model": fitted.model,
        "before": fitted.before.to_dict(),
        "after": fitted.after.to_dict(),
        "directions": {
            name: {"before": before.to_dict(), "after": after.to_dict()}
            for name, (before, after) in fitted.directions.items()
        },
        "ece": fitted.reliability.ece,
        "brier": fitted.reliability.brier,
        "candidates": [asdict(candidate) for candidate in fitted.candidates],
        **_items(observed),
        "validation": None if validation is None else _items(validation),
        "over": sorted(over),
        "seed": seed,
    }


def _items(observed: Observed) -> dict[str, Any]:
    numbers = observed.observations
    return {
        "items": observed.items,
        "pairs": len(numbers.labels),
        "comparisons": len(numbers.groups),
        "groups": len(np.unique(numbers.groups)),
        "data": observed.name,
        "digest": observed.digest,
    }


def in_markdown(report: Mapping[str, Any]) -> str:
    """Two tables: what the calibration is worth, and the models that were compared."""
    from discffusion.evaluation.estimate import Estimate

    measured = report["validation"]
    compared_as = {"": report, **report["directions"]}
    worth = [
        *(
            [f"accuracy {when}" + (f", {name}" if name else ""), str(Estimate(**own[when]))]
            for name, own in compared_as.items()
            for when in ("before", "after")
        ),
        ["calibration error", f"{report['ece']:.4f}"],
        ["Brier score", f"{report['brier']:.4f}"],
        ["fitted to", _told(report)],
        ["measured on", "the same, by cross-validation" if measured is None else _told(measured)],
    ]
    # a pruned model has the name of the one that it is made of, and comes after it
    last = max(place for place, each in enumerate(report["candidates"]) if each["name"] == report["model"])
    compared = [
        [
            each["name"] + (", pruned" if each["pruned"] else ""),
            cell(each["map"]),
            f"{each['prior_weight']:g}",
            "" if each["ridge"] is None else f"{each['ridge']:.3g}",
            f"{each['accuracy']:.2%}",
            "yes" if place == last else "",
        ]
        for place, each in enumerate(report["candidates"])
    ]
    return "\n\n".join(
        [
            table(("calibration", "value"), worth),
            table(
                ("model", "map", "prior", "ridge", "accuracy", "chosen"),
                compared,
                right=("prior", "ridge", "accuracy"),
            ),
        ]
    )


def _told(items: Mapping[str, Any]) -> str:
    return f"{items['items']} items, {items['comparisons']} comparisons ({cell(items['data'])})"
