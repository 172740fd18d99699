"""One image and texts of any length: the subset ``mixed``, whether a score compares texts that are no minimal pairs.

A text matches if it names both things by colour and shape and says nothing that is untrue. So the caption matches, and
with it a longer and a shorter one that are true: neither counts for or against another. A word or a fragment that is
true of the image says less, and does not match; what is untrue does not match.
"""

from __future__ import annotations

import random

from discffusion.data.shapes.captions import both, caption, relate
from discffusion.data.shapes.changes import change_attribute
from discffusion.data.shapes.choices import Choice, true_of
from discffusion.data.shapes.randomness import pick
from discffusion.data.shapes.sampling import Plan, draw_plan, other_than
from discffusion.data.shapes.vocabulary import COLOURS, INVERSE, SHAPES

#: kinds of text, as ``meta["kinds"]`` names them: those that match, the caption first, ...
MATCHING: tuple[str, ...] = ("caption", "longer", "shorter")
#: ... those that are not untrue, but say less, ...
LESS: tuple[str, ...] = ("empty", "article", "phrase", "word", "fragment")
#: ... and those that are untrue
UNTRUE: tuple[str, ...] = (
    "absent_colour",
    "absent_thing",
    "other_scene",
    "exchanged_colours",
    "exchanged_sides",
)
_OTHER_SCENES = 2
# what is untrue where the relation holds; touching is its own inverse
_OPPOSITE = INVERSE | {"touching": "far from", "far from": "touching"}


def mixed(rng: random.Random) -> Choice:
    """Texts of every kind in the order of the kinds, two of ``other_scene``, one of any other; no two are alike.

    The things differ in colour and in shape, else an exchange of colours would change nothing or be one of sides.
    """
    plan, colours, sides = _draw(rng)
    scene = plan.scene()
    assert scene.object is not None
    right = caption(scene)
    inverse = relate(scene.object, INVERSE[plan.relation], scene.subject)
    present = (*plan.subject, *plan.object)
    texts = {
        "caption": [right],
        "longer": [f"{right} and {inverse}"],
        "shorter": [both(scene)],
        "empty": [""],
        "article": ["a"],
        "phrase": ["a photo"],
        "word": [pick(rng, present)],
        "fragment": [" ".join(right.split()[:3])],
        "absent_colour": [other_than(rng, tuple(COLOURS), *present)],
        "absent_thing": [_absent_thing(rng, plan)],
        "other_scene": _other_scenes(rng, plan, colours, sides),
        "exchanged_colours": [caption(colours.scene())],
        "exchanged_sides": [caption(sides.scene())],
    }
    pairs = [(kind, text) for kind, of_kind in texts.items() for text in of_kind]
    kinds = tuple(kind for kind, _ in pairs)
    return Choice(scene, [text for _, text in pairs], [kind in MATCHING for kind in kinds], kinds)


def _draw(rng: random.Random) -> tuple[Plan, Plan, Plan]:
    """A plan, the same with exchanged colours, and the same with exchanged sides; all are possible.

    An impossible one, a circle inside a cross, could be told by its text alone.
    """
    while True:
        pair = change_attribute(rng)
        if pair is None:
            continue
        plan, colours, _ = pair
        sides = plan._replace(relation=_OPPOSITE[plan.relation])
        if sides.possible():
            return plan, colours, sides


def _absent_thing(rng: random.Random, plan: Plan) -> str:
    """A thing that the scene lacks, though it may have its colour and its shape."""
    while True:
        thing = (pick(rng, tuple(COLOURS)), pick(rng, SHAPES))
        if thing not in (plan.subject, plan.object):
            return f"a {' '.join(thing)}"


def _other_scenes(rng: random.Random, plan: Plan, *taken: Plan) -> list[str]:
    """Captions of scenes drawn as those of other items are; none is true of this one, or a caption of one taken."""
    scene, texts = plan.scene(), list[str]()
    used = [caption(one.scene()) for one in taken]
    while len(texts) < _OTHER_SCENES:
        other = draw_plan(rng)
        text = caption(other.scene())
        if text not in (*used, *texts) and not true_of(other, scene):
            texts.append(text)
    return texts
