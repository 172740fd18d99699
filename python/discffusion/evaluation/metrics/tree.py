"""VL-CheckList's tree of means: a node is the mean of its children, a leaf the mean of the items of one source."""

from __future__ import annotations

from collections.abc import Mapping

from discffusion.errors import ConfigError
from discffusion.evaluation.metrics.leaves import averaged, group_of, mean_of
from discffusion.evaluation.metrics.metric import Metric
from discffusion.evaluation.record import Record
from discffusion.evaluation.trials import Trials

__all__ = ["METRIC"]

_TOPS = ("Attribute", "Object", "Relation")


def trials(records: list[Record]) -> Trials:
    """A trial is an item; its group is a path such as ``Object/Location/center/vg``, the last part its source.

    ``average`` is the mean of the first level; every node has its value by its path.
    """
    paths = [group_of(record, "tree", "a path such as 'Attribute/color/vg'") for record in records]
    nodes: dict[str, dict[str, float]] = {}
    tops = sorted({path.split("/")[0] for path in paths})
    average = mean_of([_weights(top, set(paths), nodes) for top in tops])
    absent = [top for top in _TOPS if top not in tops]
    partial = 0 < len(absent) < len(_TOPS)
    note = f"tree: average is the mean of {' and '.join(tops)}; there are no items of {' and '.join(absent)}"
    outputs: Mapping[str, dict[str, float]] = {"average": average, **dict(sorted(nodes.items()))}
    return averaged(records, paths, outputs, "tree", [note] if partial else [])


def _weights(node: str, leaves: set[str], nodes: dict[str, dict[str, float]]) -> dict[str, float]:
    """How much each leaf counts in a node; also noted in `nodes`, with all that is below."""
    below = sorted(
        {"/".join(leaf.split("/")[: node.count("/") + 2]) for leaf in leaves if leaf.startswith(f"{node}/")}
    )
    if node in leaves and below:
        raise ConfigError(f"tree: {node!r} is a group of items and has groups below it, as {below[0]!r}")
    nodes[node] = mean_of([_weights(child, leaves, nodes) for child in below]) if below else {node: 1.0}
    return nodes[node]


METRIC = Metric(
    "tree",
    "VL-CheckList's tree of means over the parts of each group's path",
    trials,
    by_group=False,
)
