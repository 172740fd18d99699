"""The subset ``mixed`` of the shapes world: what its texts say, against a reader of its own that knows the grammar."""

from __future__ import annotations

import re
import warnings
from collections import Counter

import pytest

from discffusion import MatchItem, Scorer, evaluate, load_dataset
from discffusion.data.shapes import SPLITS
from discffusion.data.shapes.mixed import LESS, MATCHING, UNTRUE
from discffusion.data.shapes.relations import holds_loosely
from discffusion.data.shapes.scene import Background, Scene, Thing
from discffusion.data.shapes.vocabulary import COLOURS, RELATIONS, SHAPES
from discffusion.evaluation.metrics import metric_named
from discffusion.pocket.world import unknown_words

THING = f"a (?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})"
STATEMENT = re.compile(f"({THING})(?: ({'|'.join(RELATIONS)}) ({THING}))?")
BLANK = Background((215, 215, 215), (0, 0))


def things_of(item: MatchItem) -> dict[str, Thing]:
    """The things of the image by name, from their boxes; only what holds another is as large as 18 pixels."""
    assert item.meta is not None
    boxes = {f"a {name}": (x + w / 2, y + w / 2, w) for name, x, y, w, _ in item.meta["boxes"][0]}
    return {
        name: Thing(name.split()[2], name.split()[1], cx, cy, size, size >= 18)
        for name, (cx, cy, size) in boxes.items()
    }


def read(text: str, things: dict[str, Thing]) -> tuple[bool, set[str]]:
    """Whether all that a text of the grammar says is true, and the things that it names."""
    true, named = True, set[str]()
    for statement in text.split(" and "):
        found = STATEMENT.fullmatch(statement)
        assert found is not None, text
        one, relation, other = found.groups()
        named |= {one} if relation is None else {one, other}
        true &= named <= things.keys()
        if true and relation is not None:
            true = holds_loosely(relation, Scene(things[one], relation, things[other], BLANK))
    return true, named


@pytest.mark.parametrize("split", SPLITS)
def test_what_matches_is_true_and_whole(split: str) -> None:
    for item in load_dataset("shapes", split=split, subset="mixed", n=150):
        assert item.meta is not None
        things = things_of(item)
        words = {word for name in things for word in name.split()[1:]}
        assert len(things) == 2 and len(words) == 4 and len(set(item.texts)) == len(item.texts)
        assert item.texts[0] == item.meta["captions"][0]
        for text, kind, match in zip(item.texts, item.meta["kinds"], item.match[0], strict=True):
            assert match == (kind in MATCHING), kind
            if kind in ("empty", "article", "phrase"):
                assert text == {"empty": "", "article": "a", "phrase": "a photo"}[kind]
            elif kind in ("word", "absent_colour"):
                assert (text in words) == (kind == "word") and text in (*COLOURS, *SHAPES)
            else:
                true, named = read(text, things)
                assert match == (true and named == things.keys()), text
                assert true == (kind not in UNTRUE), text
            if kind != "phrase":
                assert unknown_words([text]) == []


def test_every_kind_is_there() -> None:
    for item in load_dataset("shapes", subset="mixed", n=20):
        counted = Counter(item.meta["kinds"])
        assert list(counted) == [*MATCHING, *LESS, *UNTRUE]
        assert all(count == (2 if kind == "other_scene" else 1) for kind, count in counted.items())


def test_kinds_are_what_they_are_called() -> None:
    for item in load_dataset("shapes", subset="mixed", n=100):
        of = dict(zip(item.meta["kinds"], item.texts, strict=True))
        whole = of["caption"]
        assert of["longer"].startswith(f"{whole} and ") and len(of["shorter"]) < len(whole)
        assert of["fragment"] == " ".join(whole.split()[:3])
        assert sorted(of["exchanged_colours"].split()) == sorted(whole.split())
        one, other = things_of(item)
        assert of["exchanged_sides"].startswith(one) and of["exchanged_sides"].endswith(other)


def test_an_item_depends_on_split_seed_and_index_alone() -> None:
    def texts(n: int, index: int, split: str = "eval", seed: int = 0) -> list[str]:
        return list(load_dataset("shapes", split=split, subset="mixed", n=n, seed=seed)[index].texts)

    assert texts(5, 3) == texts(50, 3) == texts(50, -47)
    assert len({tuple(texts(5, 3, split, seed)) for split in SPLITS for seed in (0, 1)}) == 6
    # figures that were published refer to these very items
    assert texts(1, 0)[0] == "a purple triangle above a yellow circle"
    assert texts(1, 0)[-1] == "a purple triangle below a yellow circle"


def test_the_pocket_model_is_evaluated_on_it() -> None:
    items = load_dataset("shapes", split="eval", subset="mixed", n=4, image_size=32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the bundled pocket model does not know 'photo'")
        report = evaluate(Scorer(steps=4), items)
    kinds = [f"kinds/{kind}" for kind in (*LESS, *UNTRUE)]
    assert report.metrics == ["accuracy", "acc@1", "kinds", *kinds]
    assert report["kinds/empty"].n == report["kinds/other_scene"].n == 4 and not report.missing
    # ten steps miss none of these in 20 items
    assert all(report[f"kinds/{kind}"].value == 1 for kind in ("empty", "article", "other_scene"))
    # the caption in the first place is a matching text in the first place
    assert report["acc@1"].value >= report["kinds"].value
    assert metric_named("kinds")(report.records)[""] == report["kinds"]
