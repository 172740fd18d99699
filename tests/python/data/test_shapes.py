"""The shapes world: determinism, splits, and hard negatives that change exactly one thing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from discffusion.data import MatchItem, load_dataset
from discffusion.data.shapes import SPLITS, SUBSETS
from discffusion.data.shapes.changes import CHANGES
from discffusion.data.shapes.dataset import MAIN
from discffusion.data.shapes.outline import contact, covers
from discffusion.data.shapes.randomness import generator
from discffusion.data.shapes.relations import holds_loosely
from discffusion.data.shapes.sampling import draw_plan, draw_single, split_of
from discffusion.data.shapes.vocabulary import CANVAS, COLOURS, DIRECTIONS, RELATIONS, SHAPES
from discffusion.errors import DatasetError

PAIRS = tuple(CHANGES)
EXPECTED_TEXTS = ["a green diamond around a red circle", "a green diamond touching a red circle"]


def same(a: MatchItem, b: MatchItem) -> bool:
    pictures = zip(a.images, b.images, strict=True)
    return (
        a.key == b.key
        and list(a.texts) == list(b.texts)
        and all(x.tobytes() == y.tobytes() for x, y in pictures)
    )


@pytest.mark.parametrize("subset", [*SUBSETS, None])
@pytest.mark.parametrize("split", SPLITS)
def test_items_are_well_formed(split: str, subset: str | None) -> None:
    items = load_dataset("shapes", split=split, subset=subset, n=8, seed=3)
    assert len(items) == 8
    for item in items:
        assert item.match.dtype == np.bool_ and item.match.shape == (len(item.images), len(item.texts))
        assert (item.match.sum(axis=1) == (3 if subset == "mixed" else 1)).all()
        assert len(set(item.texts)) == len(item.texts)
        assert all(image.mode == "RGB" and image.size == (32, 32) for image in item.images)
        assert item.meta is not None and item.group == item.meta["subset"]
        for boxes in item.meta["boxes"]:
            for _, x, y, w, h in boxes:
                assert x >= 0 and y >= 0 and x + w <= CANVAS and y + h <= CANVAS and w > 5


def test_subset_none_mixes_the_four_main_ones() -> None:
    assert [item.group for item in load_dataset("shapes", n=8)] == [*MAIN, *MAIN]


def test_an_item_depends_on_split_subset_seed_and_index_alone() -> None:
    items = load_dataset("shapes", split="eval", subset="predicate", n=20, seed=7)
    longer = load_dataset("shapes", split="eval", subset="predicate", n=90, seed=7)
    assert same(items[11], longer[11]) and same(items[11], list(items)[11])
    assert same(items[5:15][6], items[11]) and same(items[::-1][0], items[19]) and same(items[-1], items[19])
    assert len(items[5:15]) == 10
    other = load_dataset("shapes", split="eval", subset="predicate", n=20, seed=8)
    assert not any(same(a, b) for a, b in zip(items, other, strict=True))
    with pytest.raises(IndexError):
        items[20]


def test_items_stay_what_they_were() -> None:
    """Figures that were published refer to these very items."""
    item = load_dataset("shapes", split="test", subset="predicate", n=1, seed=0)[0]
    assert list(item.texts) == EXPECTED_TEXTS


def test_larger_pictures_show_the_same() -> None:
    small = load_dataset("shapes", subset="subject", n=1)[0]
    large = load_dataset("shapes", subset="subject", n=1, image_size=128)[0]
    assert large.images[0].size == (128, 128)
    reduced = np.asarray(large.images[0].reduce(4), dtype=float)
    assert np.abs(reduced - np.asarray(small.images[0], dtype=float)).mean() < 4
    assert large.meta["boxes"][0][0][1:] == tuple(4 * v for v in small.meta["boxes"][0][0][1:])


def test_splits_never_share_a_scene() -> None:
    rng = generator("test splits")
    counts = dict.fromkeys(SPLITS, 0)
    for _ in range(2000):
        counts[split_of(draw_plan(rng).scene())] += 1
    assert counts["train"] > 850 and counts["eval"] > 400 and counts["test"] > 400
    pictures: dict[str, set[bytes]] = {}
    for split in SPLITS:
        items = load_dataset("shapes", split=split, n=150)
        pictures[split] = {
            repr(boxes).encode() for item in items for boxes in map(sorted, item.meta["boxes"])
        }
    for a in SPLITS:
        for b in SPLITS:
            assert a == b or not pictures[a] & pictures[b]


@pytest.mark.parametrize("subset", PAIRS)
def test_a_change_keeps_everything_else(subset: str) -> None:
    rng = generator("test changes", subset)
    seen = 0
    while seen < 150:
        pair = CHANGES[subset](rng)
        if pair is None or not (pair[0].possible() and pair[1].possible()):
            continue
        seen += 1
        plan, changed, _ = pair
        assert plan.background == changed.background and plan.layout == changed.layout
        differing = [f for f in ("subject", "relation", "object") if getattr(plan, f) != getattr(changed, f)]
        if subset in ("subject", "object"):
            assert differing == [subset]
            assert getattr(plan, subset)[0] == getattr(changed, subset)[0]
        elif subset == "attribute":
            assert plan.relation == changed.relation
            assert (plan.subject[1], plan.object[1]) == (changed.subject[1], changed.object[1])
            assert (plan.subject[0], plan.object[0]) == (changed.object[0], changed.subject[0])
            assert plan.subject[0] != plan.object[0]
        elif subset == "predicate":
            assert differing == ["relation"]
        else:
            words = sorted((*plan.subject, *plan.object)), sorted((*changed.subject, *changed.object))
            assert words[0] == words[1] and plan.relation == changed.relation


def test_relations_exclude_each_other() -> None:
    rng = generator("test relations")
    for _ in range(1500):
        scene = draw_plan(rng).scene()
        assert scene.relation is not None and holds_loosely(scene.relation, scene)
        for relation in set(DIRECTIONS) - {scene.relation}:
            if scene.relation in DIRECTIONS:
                assert not holds_loosely(relation, scene)
        if scene.relation in ("inside", "around"):
            assert [r for r in RELATIONS if holds_loosely(r, scene)] == [scene.relation]
    for item in load_dataset("shapes", split="test", subset="predicate", n=100):
        assert item.meta["relations"][0] != item.meta["relations"][1]


@pytest.mark.parametrize("relation", RELATIONS)
def test_scenes_stay_on_the_canvas_and_shapes_apart(relation: str) -> None:
    rng = generator("test canvas", relation)
    for _ in range(300):
        scene = draw_plan(rng, (relation,)).scene()
        for thing in scene.things:
            x, y, w, h = thing.box()
            assert x >= 0 and y >= 0 and x + w <= CANVAS and y + h <= CANVAS
    single = draw_single(rng)
    assert single.object is None and single.relation is None


def test_contact_is_where_two_shapes_meet() -> None:
    grid = np.linspace(-1.6, 1.6, 400)
    x, y = np.meshgrid(grid, grid)
    for a in SHAPES:
        for b in SHAPES:
            d = contact(a, b, 1, -1)
            assert 0.3 < d <= 1
            assert not (covers(b, x, y) & covers(a, x - 1.05 * d, y + 1.05 * d)).any()
            assert (covers(b, x, y) & covers(a, x - 0.9 * d, y + 0.9 * d)).any()


def test_every_word_occurs() -> None:
    texts = " ".join(t for item in load_dataset("shapes", subset=None, n=300) for t in item.texts)
    assert all(word in texts for word in (*SHAPES, *COLOURS, *RELATIONS))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"split": "dev"}, "train, eval, test"),
        ({"subset": "verbs"}, "predicate"),
        ({"n": -1}, "-1"),
        ({"n": 2.5}, "2.5"),
        ({"image_size": 1}, "8"),
    ],
)
def test_wrong_options_are_named(options: dict, named: str) -> None:
    with pytest.raises(DatasetError, match=named):
        load_dataset("shapes", **options)


def test_unknown_dataset_lists_what_exists() -> None:
    with pytest.raises(DatasetError, match="shapes"):
        load_dataset("imagenet")
    assert issubclass(DatasetError, ValueError)


@pytest.mark.parametrize(
    "change",
    [
        {"images": []},
        {"texts": []},
        {"texts": "a circle"},
        {"texts": [1]},
        {"match": np.ones((2, 2), bool)},
        {"match": np.full((1, 1), 0.5)},
    ],
)
def test_malformed_items_are_refused(change: dict) -> None:
    good = {"key": "k", "images": [object()], "texts": ["a circle"], "match": [[1]]}
    assert MatchItem(**good).match.dtype == np.bool_
    with pytest.raises(DatasetError, match="k"):
        MatchItem(**{**good, **change})


def test_importing_the_data_package_is_cheap() -> None:
    code = "import sys, discffusion.data; print([m for m in ('torch', 'diffusers') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
