"""Samples, halves and chosen items of data sets: as lazy as the whole, under its name and with its metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.data.published_files import picture
from tests.python.data.tables import as_csv, as_jsonl

from discffusion import evaluate
from discffusion.data import load_dataset
from discffusion.errors import DatasetError


class ByLength:
    def matrix(self, images: Any, texts: Any) -> np.ndarray:
        return np.array([[float(len(text)) for text in texts] for _ in images])


def table(root: Path) -> Any:
    picture(root / "a.png")
    rows = [{"image": "a.png", "text": f"text {n:02d}", "no": f"no {n}", "x": "y"} for n in range(20)]
    rows.insert(3, {"image": "a.png", "text": "", "no": "no", "x": "y"})  # left out, and said so
    return load_dataset("table", as_jsonl(root / "t.jsonl", rows), negative_texts="no")


SOURCES: dict[str, Callable[[Path], Any]] = {
    "table": table,
    "shapes": lambda _: load_dataset("shapes", n=20, subset="referring", image_size=16),
}


@pytest.fixture(params=SOURCES)
def items(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return SOURCES[request.param](tmp_path)


def keys(items: Any) -> list[str]:
    return [item.key for item in items]


def alike(part: Any, whole: Any) -> None:
    assert (type(part), part.name, part.metrics) == (type(whole), whole.name, whole.metrics)
    assert part.about.get("notes") == whole.about.get("notes")
    assert (part.expected, part.missing) == (len(part), ())


def test_a_sample(items: Any) -> None:
    part = items.sample(8)
    alike(part, items)
    assert len(part) == 8 and len(set(keys(part))) == 8 and set(keys(part)) < set(keys(items))
    assert keys(part) != keys(items)[:8] and keys(part) != sorted(keys(part))
    assert keys(items.sample(8, seed=0)) == keys(part) != keys(items.sample(8, seed=1))
    # a longer one goes on where a shorter one ends
    assert keys(items.sample(12))[:8] == keys(part)
    assert sorted(keys(items.sample(20))) == sorted(keys(items))
    assert keys(items.sample(0.4)) == keys(part)


def test_the_draw_is_the_same_everywhere() -> None:
    """Noted once; another draw would change what people chose on."""
    found = keys(load_dataset("shapes", n=1000).sample(5, seed=7))
    assert [int(key.rsplit("/", 1)[1]) for key in found] == DRAWN


DRAWN = [73, 934, 97, 878, 268]


def test_two_halves(items: Any) -> None:
    chosen, measured = items.split(5, seed=3)
    for part in (chosen, measured):
        alike(part, items)
    assert (len(chosen), len(measured)) == (5, 15)
    assert sorted(keys(chosen) + keys(measured)) == sorted(keys(items))
    assert keys(chosen) == keys(items.sample(5, seed=3))
    assert chosen.about != measured.about
    first, rest = items.split(0.25, seed=3)
    assert keys(first) == keys(chosen) and keys(rest) == keys(measured)


def test_chosen_items(items: Any) -> None:
    everything = keys(items)
    ways: list[Any] = [
        [3, 1, -1],
        (3, 1, -1),
        np.array([3, 1, -1]),
        iter([3, 1, -1]),
        np.array([3, 1, 19], np.uint8),
    ]
    for way in ways:
        part = items[way]
        alike(part, items)
        assert keys(part) == [everything[3], everything[1], everything[19]]
    mask = np.arange(20) % 7 == 2
    for way in (mask, mask.tolist()):
        assert keys(items[way]) == [everything[2], everything[9], everything[16]]
    for one in (np.int64(4), np.array(4), 4, -16):
        assert items[one].key == everything[4]
    torch = pytest.importorskip("torch")
    assert keys(items[torch.tensor([2])]) == [everything[2]] and items[torch.tensor(2)].key == everything[2]
    assert len(items[[]]) == 0


def test_a_slice_keeps_name_and_metrics(items: Any) -> None:
    part = items[2:10:2]
    alike(part, items)
    assert keys(part) == keys(items)[2:10:2]
    # the whole in another order lacks what the whole lacks
    assert items[::-1].expected == items.expected and len(items[[*range(20)]]) == 20


def test_parts_of_parts_are_told_apart(items: Any) -> None:
    about = [
        items.about, items[5:].about, items[5:][:5].about, items[:5].about, items[[0, 1, 2, 3, 4]].about,
        items.sample(5).about, items.sample(5, 1).about, items.split(5)[1].about, items.split(5)[1][:5].about,
        items.sample(5)[:3].about, items.sample(5)[1:].about,
    ]  # fmt: skip
    told = [str(sorted(one.items(), key=str)) for one in about]
    assert len(set(told)) == len(told)


@pytest.mark.parametrize(
    ("n", "seed", "message"),
    [
        (0, 0, "n is 0; expected a number of items from 1 to 20, or a share of them below 1"),
        (21, 0, "n is 21; expected a number of items from 1 to 20"),
        (True, 0, "n is True"),
        (1.5, 0, "n is 1.5"),
        ("5", 0, "n is '5'"),
        (5, -1, "seed is -1"),
        (5, 0.5, "seed is 0.5"),
    ],
)
def test_numbers_that_are_none(n: Any, seed: Any, message: str, items: Any) -> None:
    for draw in (items.sample, items.split):
        with pytest.raises(DatasetError) as caught:
            draw(n, seed)
        assert message in str(caught.value)


@pytest.mark.parametrize("index", [20, -21, [0, 20], [True] * 3, np.array([-21])])
def test_indices_out_of_range(index: Any, items: Any) -> None:
    with pytest.raises(IndexError):
        items[index]


@pytest.mark.parametrize("index", ["a", 1.5, None, [1.5], ["a"], {1: 2}])
def test_indices_that_are_none(index: Any, items: Any) -> None:
    with pytest.raises(TypeError):
        items[index]


def test_nothing_is_read_before_an_item_is_asked_for(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    rows = [{"image": "a.png", "text": "x", "no": "y"}] * 4
    items = load_dataset("table", as_csv(tmp_path / "t.csv", rows), negative_texts="no")
    (tmp_path / "a.png").unlink()
    first, rest = items.split(2)
    assert [item.images[0] for item in (*first, *rest[[0]])] == [tmp_path / "a.png"] * 3


def test_an_evaluation_of_a_half_has_the_metrics_of_the_whole(tmp_path: Path) -> None:
    chosen, measured = table(tmp_path).split(6, seed=1)
    report = evaluate(ByLength(), measured, output=tmp_path / "rows.jsonl")
    assert (report.n_scored, report.n_expected, report.metrics) == (14, 14, ["accuracy"])
    assert report.settings["dataset"] == measured.name
    assert any("lack a text" in note for note in report.notes)
    assert evaluate(ByLength(), chosen).n_scored == 6
