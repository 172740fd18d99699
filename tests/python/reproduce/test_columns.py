"""Which items count in a column, and by what metric."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.python.reproduce.made_up import record

from discffusion.evaluation.record import Record
from discffusion.reproduce.columns import (
    CHECKLIST,
    COMPOSITION,
    VQA,
    WINOGROUND,
    Column,
    averaged,
    texts_of_images,
)
from discffusion.reproduce.experiments.table10 import COLUMNS, category


def square(key: str, scores: list[list[float]], group: str, **meta: object) -> Record:
    images = (f"{key}/0", f"{key}/1")
    return Record(key, np.array(scores), np.eye(2, dtype=bool), group, images, ("a", "b"), meta)


def test_groups_have_columns_and_all_counts_every_item() -> None:
    records = [record("1", True, "subject"), record("2", False, "subject"), record("3", True, "predicate")]
    values = {
        column.name: column.measure(chosen).value
        for column in COMPOSITION
        if (chosen := column.select(records))
    }
    assert values == pytest.approx({"Subjects": 0.5, "Predicate": 1.0, "All": 2 / 3})
    assert [column.name for column in averaged(COMPOSITION)][-1] == "Average"


def test_the_checklists_stand_in_compares_texts_alone() -> None:
    # image 0 prefers its own text, image 1 the other's; both texts prefer the wrong image or not: that is not asked
    mixed = square("x", [[3.0, 1.0], [9.0, 2.0]], "subject")
    right = square("y", [[3.0, 1.0], [1.0, 2.0]], "attribute")
    made = texts_of_images([mixed, right])
    assert [(r.key, r.group, r.scores.shape) for r in made] == [
        ("x/0", "Object", (1, 2)),
        ("x/1", "Object", (1, 2)),
        ("y/0", "Attribute", (1, 2)),
        ("y/1", "Attribute", (1, 2)),
    ]
    values = {
        column.name: column.measure(column.select([mixed, right]))
        for column in CHECKLIST
        if column.name != "Relation"
    }
    assert values["Object"].value == 0.5
    assert values["Attribute"].value == 1.0
    assert values["Average"].value == 0.75
    assert values["Object"].groups == 2  # two images


def test_an_images_probabilities_stay_with_it() -> None:
    record = replace(square("x", [[2, 1], [0, 3]], "object"), probabilities=[[0.8, 0.6], [0.1, 0.9]])
    made = texts_of_images([record])
    assert [r.probabilities.tolist() for r in made if r.probabilities is not None] == [
        [[0.8, 0.6]],
        [[0.1, 0.9]],
    ]


def test_the_checklist_itself_is_left_as_it_is() -> None:
    records = [record("1", True, "Attribute/color/vg"), record("2", False, "Relation/action/vg")]
    average = next(column for column in CHECKLIST if column.name == "Average")
    assert average.select(records) == records
    assert average.measure(records).value == 0.5


def test_vqa_counts_peoples_answers_where_there_are_some() -> None:
    column = next(column for column in VQA if column.name == "VQA All")
    plain = [record("1", True), record("2", True)]
    assert column.metric_for(plain) == "acc@1"
    assert column.measure(plain).value == 1.0
    # the first-ranked answer was given by 2 of 10 people: 0.6, leaving one person out at a time
    people = ["yes"] * 2 + ["no"] * 8
    asked = [record("1", True, answers=people, candidates=["yes", "no"])]
    assert column.metric_for(asked) == "vqa"
    assert column.measure(asked).value == pytest.approx((2 * (1 / 3) + 8 * (2 / 3)) / 10)


def test_winogrounds_columns() -> None:
    records = [square("x", [[3.0, 1.0], [2.0, 4.0]], "Object"), square("y", [[3.0, 1.0], [5.0, 9.0]], "Both")]
    values = {column.name: column.measure(column.select(records)).value for column in WINOGROUND}
    assert values == {"Text": 1.0, "Image": 0.5, "Group": 0.5}


def test_categories_of_winoground_and_of_its_stand_in() -> None:
    tagged = square("x", [[3.0, 1.0], [2.0, 4.0]], "x", collapsed_tag="Relation")
    drawn = square("y", [[3.0, 1.0], [5.0, 9.0]], "winoground", changed="order of the shapes")
    assert (category(tagged), category(drawn)) == ("Relation", "Object")
    found = {column.name: len(column.select([tagged, drawn])) for column in COLUMNS}
    assert {found[name] for name in found if name.startswith("Both")} == {0}
    relation = next(column for column in COLUMNS if column.name == "Relation: Group")
    assert relation.measure(relation.select([tagged, drawn])).value == 1.0


@pytest.mark.parametrize("column", [*COMPOSITION, *WINOGROUND, *COLUMNS], ids=lambda c: f"{c.place}-{c.name}")
def test_every_column_can_be_compared(column: Column) -> None:
    """The name that a comparison wants is the metric's own."""
    better = [square(str(k), [[3.0, 1.0], [2.0, 4.0]], "x") for k in range(4)]
    worse = [square(str(k), [[1.0, 3.0], [4.0, 2.0]], "x") for k in range(4)]
    assert column.compare(better, worse).difference == 1.0


@pytest.mark.parametrize("column", CHECKLIST, ids=lambda c: c.name)
def test_the_checklists_columns_can_be_compared(column: Column) -> None:
    groups = ("Attribute/size/vg", "Object/Size/small/vg", "Relation/action/vg")
    better, worse = ([record(group, right, group) for group in groups] for right in (True, False))
    assert column.compare(better, worse).difference == 1.0
