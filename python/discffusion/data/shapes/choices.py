"""One image and several texts: the subsets ``referring`` and ``vqa``."""

from __future__ import annotations

import random
from typing import NamedTuple

from discffusion.data.shapes.captions import answer, caption
from discffusion.data.shapes.randomness import pick, shuffled
from discffusion.data.shapes.relations import holds_loosely
from discffusion.data.shapes.sampling import Plan, draw_plan, other_than
from discffusion.data.shapes.scene import Scene
from discffusion.data.shapes.vocabulary import COLOURS, INVERSE, RELATIONS, SHAPES


class Choice(NamedTuple):
    """One image and its texts."""

    scene: Scene  # the image's
    texts: list[str]
    match: list[bool]  # of each text
    kinds: tuple[str, ...] = ()  # of each text, where the texts are of several


def referring(rng: random.Random, texts: int = 10) -> Choice:
    """Captions that differ from the true one in one or two things; none of the wrong ones is true."""
    plan = draw_plan(rng)
    scene = plan.scene()
    right = caption(scene)
    wrong: list[str] = []
    while len(wrong) < texts - 1:
        changed = plan
        for _ in range(pick(rng, (1, 1, 2))):
            changed = _change(rng, changed)
        text = caption(changed.scene()) if changed.possible() else right
        if text != right and text not in wrong and not true_of(changed, scene):
            wrong.append(text)
    candidates = shuffled(rng, [right, *wrong])
    return Choice(scene, candidates, [text == right for text in candidates])


def _change(rng: random.Random, plan: Plan) -> Plan:
    kind = pick(rng, ("subject", "object", "colour", "attribute", "relation"))
    (colour, shape), (other_colour, other_shape) = plan.subject, plan.object
    if kind == "subject":
        return plan._replace(subject=(colour, other_than(rng, SHAPES, shape)))
    if kind == "object":
        return plan._replace(object=(other_colour, other_than(rng, SHAPES, other_shape)))
    if kind == "colour":
        return plan._replace(subject=(other_than(rng, tuple(COLOURS), colour), shape))
    if kind == "attribute":
        return plan._replace(subject=(other_colour, shape), object=(colour, other_shape))
    return plan._replace(relation=other_than(rng, RELATIONS, plan.relation))


def true_of(plan: Plan, scene: Scene) -> bool:
    """Whether the plan's caption is true of the scene, even loosely."""
    assert scene.object is not None
    subject, other = (scene.subject.colour, scene.subject.shape), (scene.object.colour, scene.object.shape)
    if (plan.subject, plan.object) == (subject, other):
        return holds_loosely(plan.relation, scene)
    if (plan.subject, plan.object) == (other, subject):
        return holds_loosely(INVERSE[plan.relation], scene)
    return False


def vqa(rng: random.Random) -> Choice:
    """A question about the image, asked with each of several answers."""
    while True:
        plan = draw_plan(rng)
        scene = plan.scene()
        asked, right, wrong = question(rng, plan)
        if right:
            texts = shuffled(rng, [answer(asked, reply) for reply in (right, *wrong)])
            return Choice(scene, texts, [text == answer(asked, right) for text in texts])


def question(rng: random.Random, plan: Plan) -> tuple[str, str, list[str]]:
    """Question, right answer, wrong answers; an empty right answer where the scene leaves it open."""
    (colour, shape), (other_colour, other_shape) = plan.subject, plan.object
    kind = pick(rng, ("colour", "shape", "what", "where"))
    if kind == "colour":
        wrong = [c for c in COLOURS if c != colour]
        return f"what colour is the {shape}", colour if shape != other_shape else "", wrong
    if kind == "shape":
        wrong = [f"a {s}" for s in SHAPES if s != shape]
        return f"what is {colour}", f"a {shape}" if colour != other_colour else "", wrong
    name, other = f"{colour} {shape}", f"{other_colour} {other_shape}"
    if kind == "what":
        wrong = [f"a {c} {s}" for c in COLOURS for s in SHAPES if (c, s) not in (plan.subject, plan.object)]
        return f"what is {plan.relation} the {other}", f"a {name}", shuffled(rng, wrong)[:4]
    scene = plan.scene()
    wrong = [f"{r} the {other}" for r in RELATIONS if r != plan.relation and not holds_loosely(r, scene)]
    return f"where is the {name}", f"{plan.relation} the {other}", wrong
