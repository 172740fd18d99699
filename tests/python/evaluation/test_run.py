"""What evaluate scores, in which calls, and what it says of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from tests.python.evaluation.fake_scorers import ByMatrix, ByPairs, expected, item, items, picture, rule
from tests.python.run_python import run_python

import discffusion
from discffusion import ConfigError, DatasetError, DiscffusionError, ImageError, MatchItem, Scorer, evaluate


@pytest.fixture(scope="module")
def pocket() -> Scorer:
    return Scorer(config="attention", device="cpu", noise_levels=[0.5])


class Listed(list[MatchItem]):
    """Items that say what a dataset says."""

    name = "listed"
    metrics = ("accuracy", "winoground")
    expected = 9
    missing = ("a.jpg", "b.jpg")

    def __init__(self, given: Any, **about: Any) -> None:
        super().__init__(given)
        self.about = about


def test_the_function_stays_callable_beside_its_modules() -> None:
    heavy = ("torch", "scipy", "pandas", "pyarrow", "matplotlib", "tqdm")
    code = (
        "import sys, discffusion\n"
        "from discffusion import evaluate, compare, Report\n"
        "import discffusion.evaluation, discffusion.evaluation.compare, discffusion.evaluation.run\n"
        "names = discffusion.evaluate, discffusion.compare, discffusion.evaluation.compare\n"
        f"print(*map(callable, names), [name for name in {heavy!r} if name in sys.modules])"
    )
    result = run_python(code)
    assert result.stdout == "True True True []\n", result.stderr


def test_accuracy_by_hand() -> None:
    given = items(7)
    won = []
    for one in given:
        values = expected(one)
        right, rest = [values[0, 0], values[1, 1]], [values[0, 1], values[1, 0]]
        won.append(np.mean([a > b for a in right for b in rest]))
    report = evaluate(ByPairs(), given)
    assert report.metrics == ["accuracy", "winoground/text", "winoground/image", "winoground/group"]
    assert report["accuracy"].value == pytest.approx(np.mean(won), abs=1e-15)
    assert report["accuracy"].n == 7
    assert report.group("accuracy")["odd"].value == pytest.approx(np.mean(won[1::2]), abs=1e-15)
    by_key = {record.key: record for record in report.records}
    for one in given:
        record = by_key[one.key]
        assert record.scores.tolist() == expected(one).tolist()
        assert record.texts == tuple(one.texts)
        assert record.group == one.group


def test_several_items_go_in_one_call() -> None:
    scorer = ByPairs()
    evaluate(scorer, items(40))
    assert scorer.calls == [(32, 32, 64), (32, 32, 64), (16, 16, 32)]
    for size, calls in ((1, [(2, 2, 4)] * 5), (3, [(6, 6, 12), (4, 4, 8)]), (50, [(10, 10, 20)])):
        scorer = ByPairs()
        evaluate(scorer, items(5), batch_items=size)
        assert scorer.calls == calls


def test_large_items_go_alone() -> None:
    texts = [f"text {j}" for j in range(100)]
    large = [MatchItem(f"large {n}", [picture(n)], texts, np.arange(100)[None] == n) for n in range(3)]
    scorer = ByPairs()
    evaluate(scorer, [item(100), large[0], large[1], item(101), item(102)], metrics="accuracy")
    assert scorer.calls == [(2, 2, 4), (1, 100, 100), (1, 100, 100), (4, 4, 8)]


def test_what_items_share_is_scored_once(tmp_path: Path) -> None:
    """Within a call and in calls after it; by contents, so that a file, its bytes and a copy of it are one image."""
    path = tmp_path / "one.png"
    PIL.Image.fromarray(picture(1)).save(path)
    (tmp_path / "copy.png").write_bytes(path.read_bytes())
    match = np.array([[True], [False]])
    given = [
        MatchItem("a", [path, picture(2)], ["red"], match),
        MatchItem("b", [path.read_bytes(), picture(3)], ["red"], match),
        MatchItem("c", [str(tmp_path / "copy.png"), picture(2)], ["red"], match),
        MatchItem("d", [picture(2), path], ["blue"], match),
    ]
    scorer = ByPairs()
    report = evaluate(scorer, given)
    assert scorer.calls == [(3, 2, 5)]
    assert [record.scores.tolist() for record in report.records] == [expected(one).tolist() for one in given]
    scorer = ByPairs()
    evaluate(scorer, given, batch_items=1)
    assert scorer.calls == [(2, 1, 2), (1, 1, 1), (2, 1, 2)]


def test_images_that_are_equal_are_ties() -> None:
    one = item(0, images=[picture(5), picture(5)])
    report = evaluate(ByPairs(), [one, item(1)], metrics="winoground")
    assert report["winoground/image"].value <= 0.5
    assert report["winoground/image"].ties == 2


def test_a_scorer_with_only_a_matrix() -> None:
    scorer = ByMatrix()
    report = evaluate(scorer, items(3))
    assert scorer.calls == [(2, 2)] * 3
    assert report == evaluate(ByMatrix(), items(3))
    assert report["accuracy"] == evaluate(ByPairs(), items(3))["accuracy"]


@pytest.mark.parametrize(
    "convert", [torch.tensor, lambda v: torch.tensor(v).bfloat16().requires_grad_(), list]
)
def test_what_a_scorer_may_return(convert: Any) -> None:
    class Other(ByMatrix):
        def matrix(self, images: Any, texts: Any) -> Any:
            return convert([[float(i == j) for j in range(len(texts))] for i in range(len(images))])

    assert evaluate(Other(), items(2))["accuracy"].value == 1.0


@pytest.mark.parametrize("returned", [np.zeros((2, 3)), np.zeros(4), "scores", None, [[1.0], [1.0, 2.0]]])
@pytest.mark.parametrize("kind", [ByPairs, ByMatrix])
def test_a_scorer_that_returns_something_else(
    returned: Any, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "score_pairs" if kind is ByPairs else "matrix"
    if kind is ByPairs and isinstance(returned, np.ndarray):
        returned = returned[:1]
    monkeypatch.setattr(kind, name, lambda *_: returned)
    with pytest.raises(ConfigError, match=f"item 'item 0': {name} of {kind.__name__} returned"):
        evaluate(kind(), items(2))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_rank_nothing(value: float, tmp_path: Path) -> None:
    class Broken(ByPairs):
        def value(self, image: Any, text: str) -> float:
            return value if text == "other text 3" else rule(image, text, self.seed)

    output = tmp_path / "rows.jsonl"
    with pytest.raises(
        DiscffusionError, match=r"item 'item 3': the score of image 0 .* text 1 .* is -?(nan|inf)"
    ):
        evaluate(Broken(), items(6), output=output)
    assert len(output.read_text().splitlines()) == 3 * 4
    assert evaluate(ByPairs(), items(6), output=output) == evaluate(ByPairs(), items(6))


def test_errors_name_the_item(pocket: Scorer) -> None:
    given = items(4)
    broken = MatchItem("broken", [b"no image", picture(1)], ["a", "b"], np.eye(2, dtype=bool))
    with pytest.raises(ImageError, match="item 'broken': "):
        evaluate(pocket, [*given, broken])
    long = item(9, texts=["word " * 100, "b"])
    with pytest.raises(ConfigError, match="item 'item 9': "):
        evaluate(pocket.with_config(truncate="error"), [*given, long])
    with pytest.raises(ImageError, match="item 'item 8', image 1: there is no file"):
        evaluate(pocket, [item(8, images=[picture(1), "no/such.png"])])
    with pytest.raises(DatasetError, match="items 1 and 3 have the same key 'item 1'"):
        evaluate(pocket, [*given[:3], item(1)])
    with pytest.raises(DatasetError, match="item 'item 0': meta"):
        evaluate(pocket, [item(0, meta={"images": ["only one"]})])


def test_a_true_scorer(pocket: Scorer) -> None:
    given = items(5)
    report = evaluate(pocket, given, progress=False)
    for one, record in zip(given, report.records, strict=True):
        assert np.allclose(record.scores, pocket.matrix(one.images, one.texts), rtol=1e-5, atol=1e-6)
    assert report.settings["scorer"]["config"]["noise_levels"] == [0.5]
    assert evaluate(pocket.with_config(batch_size=1), given) == report
    assert evaluate(pocket.with_config(seed=1), given) != report


def test_limit_and_what_is_missing() -> None:
    given = Listed(items(6), split="val", notes="as published")
    whole = evaluate(ByPairs(), given)
    assert (whole.n_scored, whole.n_expected, whole.missing) == (6, 9, ("a.jpg", "b.jpg"))
    assert whole.notes[0] == "as published"
    assert whole.settings["dataset"] == "listed"
    assert whole.settings["items"] == {"split": "val"}
    part = evaluate(ByPairs(), given, limit=4)
    assert (part.n_scored, part.n_expected) == (4, 4)
    assert "limited to the first 4 items" in part.notes
    assert [record.key for record in part.records] == [f"item {n}" for n in range(4)]
    assert evaluate(ByPairs(), given, limit=100).n_scored == 6


def test_items_are_read_when_they_are_needed() -> None:
    def endless() -> Iterator[MatchItem]:
        yield from map(item, itertools.count())

    assert evaluate(ByPairs(), endless(), limit=3).n_scored == 3
    assert evaluate(ByPairs(), iter(items(3))).n_scored == 3

    class Lazy(list[MatchItem]):
        def __getitem__(self, index: Any) -> Any:
            reads.append(index)
            return super().__getitem__(index)

    reads: list[int] = []
    evaluate(ByPairs(), Lazy(items(5)), limit=2)
    assert reads == [0, 1]


def test_metrics() -> None:
    given = Listed(items(4))
    assert evaluate(ByPairs(), given).metrics[0] == "accuracy"
    assert evaluate(ByPairs(), given, metrics="accuracy").metrics == ["accuracy"]
    assert evaluate(ByPairs(), given, metrics=["acc@1", "accuracy"]).metrics == ["acc@1", "accuracy"]
    wide = MatchItem("wide", [picture(1)], ["a", "b"], [[True, False]])
    with pytest.raises(ConfigError, match="winoground: item 'wide'"):
        evaluate(ByPairs(), [wide], metrics="winoground")


def test_metrics_of_a_dataset_need_not_suit_a_part_of_it() -> None:
    given = Listed([MatchItem("wide", [picture(1)], ["a", "b"], [[True, False]]), *items(3)])
    report = evaluate(ByPairs(), given)
    assert report.metrics == ["accuracy"]
    assert any(note.startswith("left out: winoground: item 'wide'") for note in report.notes)


def test_texts_that_were_cut_are_told() -> None:
    given = [item(0, texts=["one two three four five six", "b"]), item(1, texts=["1 2 3 4 5 6 7 8", "b"])]
    notes = evaluate(ByPairs(), given).notes
    assert "2 texts are longer than the model reads and were cut; the longest has 10 tokens" in notes
    assert not any("longer" in note for note in evaluate(ByMatrix(), given).notes)


def test_an_open_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    PIL.Image.fromarray(picture(1)).save(path)
    with path.open("rb") as file:
        one = item(0, images=[file, picture(2)])
        found = evaluate(ByPairs(), [one]).records[0].scores
    assert found.tolist() == expected(item(0, images=[path.read_bytes(), picture(2)])).tolist()


def test_images_of_items_are_known_by_their_files() -> None:
    """What intervals are found by: items with one image in common are not independent."""
    root = Path(discffusion.__file__).parents[2] / "examples" / "scene.png"
    one = item(0, images=[root, picture(1)])
    other = item(1, images=[root, picture(2)])
    named = item(2, meta={"images": ["x.png", "y.png"]})
    records = evaluate(ByPairs(), [one, other, named]).records
    assert records[0].images[0] == records[1].images[0] == str(root)
    assert records[0].images[1] != records[1].images[1]
    assert records[2].images == ("x.png", "y.png")
    assert evaluate(ByPairs(), [one, other])["accuracy"].groups == 1


def test_progress() -> None:
    told: list[tuple[int, int]] = []
    evaluate(ByPairs(), items(5), progress=lambda done, total: told.append((done, total)), batch_items=2)
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_progress_within_a_call(pocket: Scorer) -> None:
    told: list[int] = []
    slow = pocket.with_config(batch_size=1)
    evaluate(slow, items(4), progress=lambda done, _: told.append(done))
    assert sorted(told) == told
    assert set(told) == {0, 1, 2, 3, 4}
    assert told.count(4) == 1


def test_a_bar_if_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(ByPairs(), items(5), progress=True)
    assert "5/5" in capsys.readouterr().err
    evaluate(ByPairs(), items(5))
    evaluate(ByPairs(), items(5), progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scorer": object()}, "expected an object with matrix"),
        ({"scorer": Scorer}, "scorer is the class Scorer"),
        ({"items": 5}, "expected an iterable of MatchItem"),
        ({"items": []}, "holds no items"),
        ({"items": [1]}, "item 0 of items is int"),
        ({"items": "shapes"}, "items is str"),
        ({"limit": 0}, "limit is 0"),
        ({"limit": True}, "limit is True"),
        ({"batch_items": 0}, "batch_items is 0"),
        ({"metrics": "beauty"}, "unknown metric 'beauty'"),
        ({"metrics": ["accuracy", 5]}, "unknown metric 5"),
        ({"metrics": []}, "metrics is empty"),
        ({"metrics": 5}, "metrics is int"),
        ({"output": "rows.csv"}, "expected a .jsonl or a .parquet file"),
        ({"output": 5}, "output is 5"),
        ({"scorer": ByPairs(extra=object())}, "holds object; expected plain data"),
        ({"scorer": ByPairs(extra=float("nan"))}, "holds nan"),
        ({"items": [item(0, texts=["a \ud800", "b"])]}, "text 0 is not valid Unicode"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    scorer, given = arguments.pop("scorer", ByPairs()), arguments.pop("items", items(2))
    with pytest.raises(DiscffusionError, match=message):
        evaluate(scorer, given, **arguments)
