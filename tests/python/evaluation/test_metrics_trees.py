"""Means of means: VL-CheckList's tree, SugarCrepe's kinds and ARO's classes, by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from tests.python.evaluation.scored import record

from discffusion import ConfigError
from discffusion.evaluation.metrics import METRICS
from discffusion.evaluation.metrics.aro_symmetric import SYMMETRIC
from discffusion.evaluation.record import Record


def items(outcomes: Mapping[str, str]) -> list[Record]:
    """One image and two texts an item; ``+`` is won, ``-`` lost and ``=`` a tie, listed by group."""
    return [
        record(
            f"{group} {index}",
            [[{"+": 1, "-": -1, "=": 0}[outcome], 0]],
            [[1, 0]],
            group=group,
            images=(f"{group} {index}.jpg",),
        )
        for group, of in outcomes.items()
        for index, outcome in enumerate(of)
    ]


def test_the_tree_is_a_mean_of_means() -> None:
    found = METRICS["tree"](
        items(
            {
                "Attribute/color/vg": "+++-",  # 3/4
                "Attribute/color/vaw": "+-",  # 1/2, so color is 5/8
                "Attribute/size/vg": "+",  # 1, so Attribute is 13/16
                "Object/Location/center/hake": "+-",  # 1/2
                "Object/Location/mid/hake": "--",  # 0, so Location is 1/4
                "Object/Size/large/vg": "+++=",  # 3/4, so Object is 1/2
                "Relation/action/swig": "-",
                "Relation/action/vg": "++",  # so action is 1/2
                "Relation/spatial/vg": "+" * 9 + "-",  # 9/10, so Relation is 7/10
            }
        )
    )
    expected = {
        "Attribute/color/vg": 0.75,
        "Attribute/color": 0.625,
        "Attribute": 13 / 16,
        "Object/Location": 0.25,
        "Object/Size": 0.75,
        "Object": 0.5,
        "Relation/action": 0.5,
        "Relation": 0.7,
        "average": (13 / 16 + 0.5 + 0.7) / 3,
    }
    assert {name: found[name].value for name in expected} == pytest.approx(expected)
    assert (found["Attribute/color"].n, found["average"].n) == (6, 28)
    assert (found["average"].ties, found["Object/Size"].ties, found["Relation"].ties) == (1, 1, 0)
    assert found["Attribute/color/vg"].method == "exact"
    assert found["average"].method == "t"
    assert found["average"].low < found["average"].value < found["average"].high


def test_a_part_of_the_tree_says_what_its_average_lacks() -> None:
    found = METRICS["tree"].measure(items({"Attribute/color/vg": "+-", "Object/Size/large/vg": "++"}))
    assert found.values["average"].value == 0.75
    assert found.notes == (
        "tree: average is the mean of Attribute and Object; there are no items of Relation",
    )


def test_the_interval_of_a_node_is_that_of_its_formula() -> None:
    """A mean of two leaves of other sizes varies as the mean of two independent means does."""
    rng = np.random.default_rng(3)
    draws = {"a/x": 200, "a/y": 50}
    found = METRICS["tree"](
        items({group: "".join(rng.choice(["+", "-"], n, p=[0.6, 0.4])) for group, n in draws.items()})
    )
    variance = sum(found[group].value * (1 - found[group].value) / n for group, n in draws.items()) / 4
    half = (found["a"].high - found["a"].low) / 2
    assert half == pytest.approx(
        1.96 * np.sqrt(variance), rel=0.06
    )  # 2,000 resamples know an end to about 3 %


@pytest.mark.parametrize(
    ("metric", "group"), [("tree", "Object"), ("sugarcrepe", "add_att"), ("aro", "relation/on")]
)
def test_items_without_a_group_or_a_comparison_are_refused(metric: str, group: str) -> None:
    with pytest.raises(ConfigError, match=f"{metric}: item 'k' has no group; it must be"):
        METRICS[metric]([record("k", [[1, 0]], [[1, 0]])])
    with pytest.raises(ConfigError, match=f"{metric}: item 'k' holds no matching pair"):
        METRICS[metric]([record("k", [[1, 0]], [[1, 1]], group=group)])


def test_a_group_above_another_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="'Object' is a group of items and has groups below it, as 'Object/Size'"
    ):
        METRICS["tree"](items({"Object": "+", "Object/Size": "-"}))


def test_sugarcrepe_means_files_within_kinds() -> None:
    found = METRICS["sugarcrepe"](
        items(
            {
                "add_att": "++++",
                "add_obj": "+-",  # add: 3/4
                "replace_att": "--",
                "replace_obj": "++",
                "replace_rel": "+-",  # replace: 1/2
                "swap_att": "-=",
                "swap_obj": "++++-",  # swap: 2/5
            }
        )
    )
    expected = {"add_obj": 0.5, "swap_obj": 0.8, "add": 0.75, "replace": 0.5, "swap": 0.4, "average": 0.55}
    assert {name: found[name].value for name in expected} == pytest.approx(expected)
    assert list(found)[:4] == ["average", "add", "replace", "swap"] and len(found) == 11
    assert (found["add"].n, found["swap_att"].ties) == (6, 1)


def test_sugarcrepe_without_some_kinds_says_so() -> None:
    assert METRICS["sugarcrepe"].measure(items({"swap_att": "+-"})).notes == (
        "sugarcrepe: average is the mean of swap; there are no items of add and replace",
    )


@pytest.mark.parametrize("group", ["object", "addatt", "change_att"])
def test_sugarcrepe_refuses_other_groups(group: str) -> None:
    with pytest.raises(ConfigError, match=f"'{group}' is not the name of a file"):
        METRICS["sugarcrepe"](items({group: "+"}))


def test_aro_counts_every_relation_and_the_larger_classes_of_attributes() -> None:
    found = METRICS["aro"].measure(
        items(
            {
                "relation/on": "+-",
                "relation/under": "+",
                "attribution/white_large": "+" * 20 + "-" * 5,
                "attribution/open_new": "+" * 24,
            }
        )
    )
    assert found.values["relation"].value == 0.75
    assert found.values["attribution"].value == 0.8
    assert found.values["attribution/open_new"].value == 1
    assert found.values["attribution"].n == 25
    assert found.notes == (
        "aro: 1 of 2 classes of attributes have fewer than 25 items and are left out of the mean",
    )


def test_aro_with_small_classes_of_attributes_alone_has_no_mean() -> None:
    with pytest.raises(ConfigError, match="no class of attributes has 25 items"):
        METRICS["aro"](items({"attribution/white_large": "++"}))


@pytest.mark.parametrize("group", ["on", "relations/on", "relation"])
def test_aro_refuses_other_groups(group: str) -> None:
    with pytest.raises(ConfigError, match=f"the group '{group}' is not a class"):
        METRICS["aro"](items({group: "+"}))


def test_aro_states_the_mean_of_relations_as_it_was_published_too() -> None:
    """ "on" and "under" are asked for by the publishers' notebook, "near" and "sitting next to" are not."""
    found = METRICS["aro"].measure(
        items(
            {
                "relation/on": "+-",
                "relation/under": "+",
                "relation/near": "--",
                "relation/sitting next to": "-",
            }
        )
    )
    assert found.values["relation"].value == pytest.approx(1.5 / 4)
    assert found.values["relation_published"].value == 0.75
    assert (found.values["relation"].n, found.values["relation_published"].n) == (6, 3)
    assert found.notes == (
        "aro: relation is the mean over all 4 relations; relation_published leaves out 2 that the publishers call "
        "symmetric, as their notebook does",
    )
    # where there is nothing to leave out, or nothing else, there is one mean
    for group in ("relation/on", "relation/near"):
        alone = METRICS["aro"].measure(items({group: "+-"}))
        assert list(alone.values) == ["relation", group] and alone.notes == ()


def test_the_relations_that_the_publishers_leave_out() -> None:
    """157 in their notebook, none of which is cut at the end of a line."""
    assert len(SYMMETRIC) == 157
    assert {
        "adjusting",
        "in between",
        "sitting in front of",
        "on the other side of",
        "wrapped in",
    } <= SYMMETRIC
    assert not {"to the left of", "on", "under", "holding", "wearing", "behind", "riding"} & SYMMETRIC
    assert all(name == " ".join(name.split()) and name for name in SYMMETRIC)
