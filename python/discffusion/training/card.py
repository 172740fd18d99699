"""The model card of trained deltas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from discffusion import __version__

if TYPE_CHECKING:
    from discffusion.trainer import Trainer

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

| option | value |
| --- | --- |
{options}

## Validation

{validation}

## Size of the deltas

Frobenius norms; relative to the weight that a delta is added to.

| layer | attention | projection | norm | relative norm |
| --- | --- | --- | ---: | ---: |
{norms}
"""


def card(trainer: Trainer) -> str:
    """A model card in Markdown; every figure in it is of this trainer's run."""
    about, deltas = trainer.about(), trainer.deltas
    relative = deltas.norms(relative_to=trainer.scorer)
    changes = {name: value for name, value in trainer.config.changes().items() if value is not None}
    loading = ", ".join(
        [repr(about["base_model"]), *(f"{name}={value!r}" for name, value in changes.items())]
    )
    options = {**about["training_options"], **_found(about)}
    return _CARD.format(
        base=about["base_model"],
        base_json=json.dumps(about["base_model"]),
        version=__version__,
        deltas=f"{deltas.num_parameters:,} numbers in {len(deltas.layers)} layers, "
        + ("dense" if deltas.rank is None else f"of rank {deltas.rank}"),
        loading=loading,
        data="\n".join(_data(about)),
        training=_training(trainer, about),
        options="\n".join(f"| {name} | {_cell(value)} |" for name, value in options.items()),
        validation=_validation(trainer),
        norms="\n".join(
            f"| {e['site']} | {e['attention']} | {e['projection']} | {e['norm']:.4g} | {relative[e['name']]:.4g} |"
            for e in deltas.entries
        ),
    )


def _found(about: dict[str, Any]) -> dict[str, Any]:
    """What the run made of options that were left open, and what is no option of the trainer."""
    run = about.get("training", {})
    return {name: run[name] for name in ("temperature", "batch_size") if run.get(name) is not None}


def _data(about: dict[str, Any]) -> list[str]:
    lines = [
        f"- {part}: {found['items']} items of {_cell(found['source'])}, digest `{found['digest']}`"
        for part, found in about.get("data", {}).items()
    ]
    if "before" in about:
        lines.append(f"- the deltas that training started from: {_cell(about['before'])}")
    return lines or ["None: the deltas were not trained."]


def _training(trainer: Trainer, about: dict[str, Any]) -> str:
    steps = trainer.history.steps
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


def _validation(trainer: Trainer) -> str:
    rows = trainer.history.validations
    if not rows:
        return "There was none."
    table = "\n".join(
        f"| {row['step']} | {row['epoch']} | {100 * row['accuracy']:.2f} | {row['comparisons']} | {row['ties']} |"
        for row in rows
    )
    return (
        "Accuracy is the share of comparisons won, in percent: a matching pair against a pair of the same image or\n"
        "the same text that does not match. Ties are not won. The deltas were chosen by it, so it is no measure of\n"
        "their worth on other data.\n\n| step | epoch | accuracy | comparisons | ties |\n"
        f"| ---: | ---: | ---: | ---: | ---: |\n{table}"
    )


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
