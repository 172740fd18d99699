"""ARO: pair accuracy per class of relation or attributes, and its mean over classes."""

from __future__ import annotations

from collections import Counter

from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.aro_symmetric import SYMMETRIC
from discffusion.evaluation.metrics.leaves import averaged, group_of, mean_of
from discffusion.evaluation.metrics.metric import Metric
from discffusion.evaluation.record import Record
from discffusion.evaluation.trials import Trials

__all__ = ["FEWEST", "METRIC"]

#: a class of attributes with fewer items has no part in the mean, as published; every relation has
FEWEST = 25
_KINDS = ("relation", "attribution")


def trials(records: list[Record]) -> Trials:
    """A trial is an item; its group is its class, as ``relation/on`` or ``attribution/white_large``.

    ``relation`` and ``attribution`` are the means over their classes; each class has its value by the group's name.
    ``relation_published`` is the mean that publications state, without the :data:`SYMMETRIC` relations; it is there
    where some of these are.
    """
    classes = [group_of(record, "aro", "its class, such as 'relation/on'") for record in records]
    outputs: dict[str, dict[str, float]] = {}
    notes = []
    sizes = Counter(classes)
    for kind in _KINDS:
        of_kind = sorted(name for name in sizes if name.startswith(f"{kind}/"))
        counted = [name for name in of_kind if kind == "relation" or sizes[name] >= FEWEST]
        if counted:
            outputs[kind] = mean_of([{name: 1.0} for name in counted])
        asked = [name for name in counted if name.partition("/")[2] not in SYMMETRIC]
        if kind == "relation" and 0 < len(asked) < len(counted):
            outputs["relation_published"] = mean_of([{name: 1.0} for name in asked])
            notes.append(
                f"aro: relation is the mean over all {len(counted)} relations; relation_published leaves out "
                f"{len(counted) - len(asked)} that the publishers call symmetric, as their notebook does"
            )
        if len(counted) < len(of_kind):
            small = len(of_kind) - len(counted)
            notes.append(
                f"aro: {small} of {len(of_kind)} classes of attributes have fewer than {FEWEST} items and are left "
                "out of the mean"
            )
    other = sorted(name for name in sizes if name.split("/")[0] not in _KINDS or "/" not in name)
    if other:
        raise ConfigError(
            f"aro: the group {other[0]!r} is not a class; they start with relation/ or attribution/"
        )
    if not outputs:
        raise ConfigError(f"aro: no class of attributes has {FEWEST} items, so there is no mean over classes")
    outputs |= {name: {name: 1.0} for name in sorted(sizes)}
    return averaged(records, classes, outputs, "aro", notes)


METRIC = Metric(
    "aro",
    f"pair accuracy per class, mean over relations (all; as published) and attributes with {FEWEST} items or more",
    trials,
    by_group=False,
)
