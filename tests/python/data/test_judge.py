"""The reader of drawings, on scenes that were drawn: how often it is right is what its verdicts are worth."""

from __future__ import annotations

import PIL.Image
import pytest

from discffusion.data.shapes.judge import Judgement, things_in
from discffusion.data.shapes.judge import judge as judge_words
from discffusion.data.shapes.randomness import generator
from discffusion.data.shapes.render import render
from discffusion.data.shapes.sampling import draw_plan
from discffusion.data.shapes.scene import Background, Scene, Thing
from discffusion.data.shapes.vocabulary import RELATIONS

PLAIN = Background((215, 215, 215), (0, 0))


def drawn(n: int, size: int = 32) -> list[tuple[Scene, PIL.Image.Image]]:
    rng = generator("judge", n)
    scenes = [draw_plan(rng).scene() for _ in range(n)]
    return [(scene, render(scene, size)) for scene in scenes]


def judge(image: PIL.Image.Image, asked: Scene) -> Judgement:
    assert asked.object is not None
    return judge_words(image, asked.subject.name, asked.relation, asked.object.name)


def differ(scene: Scene) -> bool:
    """Two things of one colour that touch are one patch, which is no shape."""
    return scene.object is not None and scene.subject.colour != scene.object.colour


@pytest.mark.parametrize("size", [32, 64])
def test_drawn_scenes(size: int) -> None:
    scenes = drawn(100, size)
    named = [
        sorted(t.name for t in things_in(image)) == sorted(t.name for t in s.things) for s, image in scenes
    ]
    assert sum(named) >= 94
    verdicts = [judge(image, scene) for scene, image in scenes]
    assert sum(verdict.things for verdict in verdicts) >= 94
    assert sum(verdict.relation for verdict in verdicts) >= 94
    # all that it gets wrong is of one colour
    assert all(
        verdict.relation for verdict, (scene, _) in zip(verdicts, scenes, strict=True) if differ(scene)
    )


def test_what_is_not_there() -> None:
    """The picture of one scene, asked for another."""
    scenes = [pair for pair in drawn(100) if differ(pair[0])]
    for (scene, image), (other, _) in zip(scenes, scenes[1:], strict=False):
        verdict = judge(image, other)
        names = {thing.name for thing in scene.things}
        assert verdict.subject == (other.subject.name in names)
        assert verdict.object == (other.object is not None and other.object.name in names)


@pytest.mark.parametrize("asked", [relation for relation in RELATIONS if relation != "around"])
def test_relations(asked: str) -> None:
    """A circle well to the left of a square, and nothing else."""
    circle, square = Thing("circle", "red", 8, 16, 10), Thing("square", "blue", 22, 16, 10)
    verdict = judge(render(Scene(circle, "left of", square, PLAIN)), Scene(circle, asked, square, PLAIN))
    assert verdict.things
    assert verdict.relation == (asked == "left of")


def test_one_thing_and_none() -> None:
    circle, square = Thing("circle", "red", 8, 16, 10), Thing("square", "blue", 22, 16, 10)
    asked = Scene(circle, "left of", square, PLAIN)
    assert judge(render(Scene(circle, None, None, PLAIN)), asked) == (True, False, False)
    assert judge(PIL.Image.new("RGB", (32, 32), (215, 215, 215)), asked) == (False, False, False)
    assert things_in(PIL.Image.new("L", (32, 32), 0)) != [circle]
