"""English for scenes."""

from __future__ import annotations

from discffusion.data.shapes.scene import Scene, Thing


def caption(scene: Scene) -> str:
    """``a red circle left of a blue square``; a lone subject is just named."""
    if scene.object is None or scene.relation is None:
        return f"a {scene.subject.name}"
    return relate(scene.subject, scene.relation, scene.object)


def relate(subject: Thing, relation: str, other: Thing) -> str:
    return f"a {subject.name} {relation} a {other.name}"


def colourless(scene: Scene) -> str:
    """``a circle left of a square``."""
    assert scene.object is not None
    return f"a {scene.subject.shape} {scene.relation} a {scene.object.shape}"


def both(scene: Scene) -> str:
    """``a red circle and a blue square``."""
    assert scene.object is not None
    return f"a {scene.subject.name} and a {scene.object.name}"


def answer(question: str, reply: str) -> str:
    """One text of a question and an answer: ``what colour is the circle? red``."""
    return f"{question}? {reply}"
