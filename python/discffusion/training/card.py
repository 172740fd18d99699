"""The model card of trained deltas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from discffusion import _markdown
from discffusion._version import __version__
from discffusion.deltas import Deltas
from discffusion.training.history import History

__all__ = ["card"]

_CARD = """---
library_name: discffusion
base_model: {base_json}
tags:
- image-text-matching
- few-shot
---

# Deltas for `{base}`

What few-shot training added to the weights of `{base}`: {deltas}. With them, the score of
[discffusion](https://pypi.org/project/discffusion/) {version} tells images and texts that match from others.

## Use

```python
from discffusion import Scorer

scorer = Scorer({loading})
scorer.load_deltas("deltas.safetensors")
scorer.score("photo.jpg", "a text")
```

## Data

{data}

## Training

{training}

{options}

## Validation

{validation}

## Size of the deltas

Frobenius norms; relative to the weight that a delta is added to.

{norms}
"""


def card(
    about: dict[str, Any],
    deltas: Deltas,
    relative_norms: Mapping[str, float],
    config_changes: Mapping[str, Any],
    history: History,
) -> str:
    """A model card in Markdown; every figure in it is of one run.

    Args:
        about: what is saved with the deltas.
        relative_norms: by name of a delta, its norm relative to that of the weight.
        config_changes: fields of the score's configuration that are not the default.
    """
    changes = {name: value for name, value in config_changes.items() if value is not None}
    loading = ", ".join(
        [repr(about["base_model"]), *(f"{name}={value!r}" for name, value in changes.items())]
    )
    options = {**about["training_options"], **_settled(about)}
    return _CARD.format(
        base=about["base_model"],
        base_json=json.dumps(about["base_model"]),
        version=__version__,
        deltas=f"{deltas.num_parameters:,} numbers in {len(deltas.layers)} layers, "
        + ("dense" if deltas.rank is None else f"of rank {deltas.rank}"),
        loading=loading,
        data="\n".join(_data(about)),
        training=_training(history.steps, about),
        options=_markdown.table(
            ["option", "value"],
            [[name, _markdown.cell(value)] for name, value in options.items()],
            padded=False,
        ),
        validation=_validation(history.validations),
        norms=_norms(deltas, relative_norms),
    )


def _norms(deltas: Deltas, relative: Mapping[str, float]) -> str:
    head = ["layer", "attention", "projection", "norm", "relative norm"]
    rows = [
        [e["layer"], e["attention"], e["projection"], f"{e['norm']:.4g}", f"{relative[e['name']]:.4g}"]
        for e in deltas.entries
    ]
    return _markdown.table(head, rows, right=head[3:], padded=False)


def _settled(about: dict[str, Any]) -> dict[str, Any]:
    """What the run made of options that were left open, and what is no option of the trainer."""
    run = about.get("training", {})
    names = ("temperature", "timesteps", "batch_size")
    return {name: run[name] for name in names if run.get(name) is not None}


def _data(about: dict[str, Any]) -> list[str]:
    lines = [
        f"- {part}: {data['items']} items of {_markdown.cell(data['source'])}, digest `{data['digest']}`"
        for part, data in about.get("data", {}).items()
    ]
    if "before" in about:
        lines.append(f"- the deltas that training started from: {_markdown.cell(about['before'])}")
    return lines or ["None: the deltas were not trained."]


def _training(steps: list[dict[str, Any]], about: dict[str, Any]) -> str:
    if not steps:
        return "No step was done."
    last = steps[-1]
    text = (
        f"{last['step']} steps in {last['epoch']} epochs; mean loss {_mean_loss(steps, 1)} in the first epoch and "
        f"{_mean_loss(steps, last['epoch'])} in the last, {last['loss']:.4g} at the last step."
    )
    if about["training"]["steps"] != last["step"]:
        text += (
            f" The deltas are those after step {about['training']['steps']}, which were best in validation."
        )
    return text


def _mean_loss(steps: list[dict[str, Any]], epoch: int) -> str:
    losses = [row["loss"] for row in steps if row["epoch"] == epoch]
    return f"{sum(losses) / len(losses):.4g}" if losses else "unknown"


def _validation(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "There was none."
    head = ["step", "epoch", "accuracy", "comparisons", "ties"]
    cells = [
        [
            *map(str, (row["step"], row["epoch"])),
            f"{100 * row['accuracy']:.2f}",
            *map(str, (row["comparisons"], row["ties"])),
        ]
        for row in rows
    ]
    return (
        "Accuracy is the share of comparisons won, in percent: a matching pair against a pair of the same image or\n"
        "the same text that does not match. Ties are not won. The deltas were chosen by it, so it is no measure of\n"
        "their worth on other data.\n\n" + _markdown.table(head, cells, right=head, padded=False)
    )
