"""SugarCrepe: pair accuracy per file, and its means over the files of a kind of change."""

from __future__ import annotations

from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.leaves import averaged, group_of, mean_of
from discffusion.evaluation.metrics.metric import Metric
from discffusion.evaluation.record import Record
from discffusion.evaluation.trials import Trials

__all__ = ["METRIC"]

_KINDS = ("add", "replace", "swap")


def trials(records: list[Record]) -> Trials:
    """A trial is an item; its group is the name of its file, as ``swap_att``.

    There is a value per file, one per kind (the mean of its files) and ``average`` (the mean of the kinds).
    """
    files = [group_of(record, "sugarcrepe", "the name of its file, such as 'swap_att'") for record in records]
    outputs: dict[str, dict[str, float]] = {}
    kinds: dict[str, list[dict[str, float]]] = {}
    for file in sorted(set(files)):
        kind = file.split("_")[0]
        if kind not in _KINDS or "_" not in file:
            raise ConfigError(
                f"sugarcrepe: the group {file!r} is not the name of a file; they start with add_, replace_ or swap_"
            )
        kinds.setdefault(kind, []).append({file: 1.0})
    macro = {kind: mean_of(of) for kind, of in kinds.items()}
    outputs = {
        "average": mean_of(list(macro.values())),
        **macro,
        **{file: {file: 1.0} for file in sorted(set(files))},
    }
    absent = [kind for kind in _KINDS if kind not in macro]
    note = f"sugarcrepe: average is the mean of {' and '.join(macro)}; there are no items of {' and '.join(absent)}"
    return averaged(records, files, outputs, "sugarcrepe", [note] if absent else [])


METRIC = Metric(
    "sugarcrepe",
    "pair accuracy per file, its mean per kind (add, replace, swap) and over the kinds",
    trials,
    by_group=False,
)
