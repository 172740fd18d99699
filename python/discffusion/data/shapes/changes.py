"""Pairs of plans for the subsets: a scene and its hard negative, which differ in exactly one thing."""

from __future__ import annotations

import random
from collections.abc import Callable

from discffusion.data.shapes.randomness import pick
from discffusion.data.shapes.relations import holds_loosely
from discffusion.data.shapes.sampling import Plan, draw_plan, other_than
from discffusion.data.shapes.vocabulary import RELATIONS, SHAPES, SYMMETRIC

Pair = tuple[Plan, Plan, str]  # the scene, the changed scene, what was changed


def change_subject(rng: random.Random) -> Pair | None:
    plan = draw_plan(rng)
    colour, shape = plan.subject
    new = other_than(rng, SHAPES, shape)
    return plan, plan._replace(subject=(colour, new)), f"subject: {shape} -> {new}"


def change_object(rng: random.Random) -> Pair | None:
    plan = draw_plan(rng)
    colour, shape = plan.object
    new = other_than(rng, SHAPES, shape)
    return plan, plan._replace(object=(colour, new)), f"object: {shape} -> {new}"


def change_attribute(rng: random.Random) -> Pair | None:
    """The two colours change places. Shapes differ too: two like shapes that touch would look the same after it."""
    plan = draw_plan(rng)
    (colour, shape), (other_colour, other_shape) = plan.subject, plan.object
    if colour == other_colour or shape == other_shape:
        return None
    swapped = plan._replace(subject=(other_colour, shape), object=(colour, other_shape))
    return plan, swapped, f"colours: {colour} <-> {other_colour}"


def change_predicate(rng: random.Random) -> Pair | None:
    """Another relation; neither may hold, even loosely, in the scene of the other."""
    plan = draw_plan(rng)
    relation = other_than(rng, RELATIONS, plan.relation)
    changed = plan._replace(relation=relation)
    if not changed.possible():
        return None
    if holds_loosely(relation, plan.scene()) or holds_loosely(plan.relation, changed.scene()):
        return None
    return plan, changed, f"relation: {plan.relation} -> {relation}"


def reorder(rng: random.Random) -> Pair | None:
    """The same words in another order: the things, the shapes or the colours change places."""
    plan = draw_plan(rng)
    (colour, shape), (other_colour, other_shape) = plan.subject, plan.object
    kind = pick(rng, ("things", "shapes", "colours"))
    if kind == "things":
        new = ((other_colour, other_shape), (colour, shape))
        if plan.relation in SYMMETRIC:
            return None
    else:
        if colour == other_colour or shape == other_shape:
            return None
        if kind == "shapes":
            new = ((colour, other_shape), (other_colour, shape))
        else:
            new = ((other_colour, shape), (colour, other_shape))
    return plan, plan._replace(subject=new[0], object=new[1]), f"order of the {kind}"


#: subset -> draws a pair, or None where the draw allows no such change
CHANGES: dict[str, Callable[[random.Random], Pair | None]] = {
    "subject": change_subject,
    "object": change_object,
    "attribute": change_attribute,
    "predicate": change_predicate,
    "winoground": reorder,
}
