"""Training: what it changes, what it tells, and what it refuses."""

from __future__ import annotations

import inspect
import json
import os
import signal
import threading
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.python.training_items import OPTIONS, SCORE, Drawn, item, threads, trainer_of

from discffusion import (
    ConfigError,
    DatasetError,
    ImageError,
    MatchItem,
    Scorer,
    Trainer,
    TrainingError,
    load_dataset,
)
from discffusion.training import run as run_module
from discffusion.training.options import TrainOptions, option_table
from discffusion.training.plan import Plan
from discffusion.training.validation import compare

STEP_COLUMNS = ["step", "epoch", "loss", "temperature"]
STEP_COLUMNS += ["learning_rate", "gradient_norm", "active", "rows", "backward_rows"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with threads(1):
        yield


def test_options_are_the_cores() -> None:
    rows = {row["name"]: row for row in option_table()}
    hints = typing.get_type_hints(TrainOptions)
    assert list(hints) == list(rows)
    documented = inspect.getdoc(Trainer)
    assert documented is not None
    for name, row in rows.items():
        assert f" {name}: {row['help']} " in " ".join(documented.split())
        if row["kind"] == "choice":
            assert typing.get_args(hints[name]) == tuple(row["choices"])


def test_options_have_the_cores_defaults(scorer: Scorer) -> None:
    trainer = Trainer(scorer)
    assert trainer.options == {row["name"]: row["default"] for row in option_table()}
    assert trainer.config == scorer.config
    assert Trainer(scorer, margin=np.float32(0.5), layers=("mid.0",)).options["layers"] == ["mid.0"]


WRONG_OPTIONS: list[dict[str, Any]] = [
    {"loss": "tripplet"},
    {"margin": -1},
    {"margin": float("nan")},
    {"temperature": 0},
    {"negatives": "easiest"},
    {"negative_kinds": "none"},
    {"in_batch": "yes"},
    {"rank": 0},
    {"rank": 1.5},
    {"layers": []},
    {"layers": "sideways"},
    {"projections": "q"},
    {"learning_rate": -1e-3},
    {"learning_rate": {1}},
    {"weight_decay": -1},
    {"schedule": "linear"},
    {"warmup_steps": -1},
    {"gradient_clip": 0},
    {"accumulate": 0},
    {"timesteps_per_step": 0},
    {"timesteps": "all"},
    {"temperature_schedule": "linear"},
    {"batch_texts": -1},
    {"batch_texts": 1, "in_batch": True},
    {"batch_texts": 1, "negative_kinds": "image"},
    {"batch_texts": 1, "loss": "diffusion"},
    {"recompute": 1},
    {"seed": -1},
]


@pytest.mark.parametrize("options", WRONG_OPTIONS, ids=str)
def test_wrong_options_are_named(options: dict[str, Any], scorer: Scorer) -> None:
    with pytest.raises(ConfigError, match="|".join(options)):
        Trainer(scorer, **options)


def test_unknown_options_get_a_suggestion(scorer: Scorer) -> None:
    with pytest.raises(
        ConfigError, match=r"unknown training option 'lerning_rate' .did you mean 'learning_rate'"
    ):
        Trainer(scorer, lerning_rate=1)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="expected a Scorer"):
        Trainer("pocket")  # type: ignore[arg-type]


def test_training_learns_its_items() -> None:
    items = load_dataset("shapes", split="train", n=8)
    with Scorer(method="attention", noise_levels=[0.5]) as scorer:
        before = scorer.matrix(items[0].images, items[0].texts)
        trainer = Trainer(scorer, learning_rate=3e-3, temperature=0.1)
        history = trainer.fit(items, items, epochs=8, batch_size=4, validate_every=8)
        first, last = history["loss"][:2], history["loss"][-2:]
        assert sum(last) < 0.7 * sum(first)
        assert history["accuracy"][-1] > history["accuracy"][0]
        np.testing.assert_array_equal(scorer.matrix(items[0].images, items[0].texts), before)
        assert not np.array_equal(trainer.scorer.matrix(items[0].images, items[0].texts), before)
        assert scorer.deltas is None


def test_history_has_a_row_a_step(scorer: Scorer) -> None:
    history = trainer_of(scorer).fit(Drawn(5), Drawn(2, first=9), epochs=2, batch_size=2)
    assert history["step"] == [0, 1, 2, 3, 3, 4, 5, 6, 6]  # three validations among six steps
    assert [list(row) for row in history.steps] == [STEP_COLUMNS] * 6
    assert [row["epoch"] for row in history.steps] == [1, 1, 1, 2, 2, 2]
    assert [list(row) for row in history.validations] == [
        ["step", "epoch", "accuracy", "comparisons", "ties"]
    ] * 3
    assert [row["epoch"] for row in history.validations] == [0, 1, 2]
    for row in history.steps:
        assert np.isfinite(row["loss"])
        assert row["learning_rate"] == OPTIONS["learning_rate"]
        assert 0 <= row["active"] <= 1
        assert row["rows"] >= row["backward_rows"] >= 0
    # the last step of an epoch has one item of two
    assert history.steps[2]["rows"] < history.steps[0]["rows"]
    assert json.loads(history.to_json()) == list(history)


def test_every_item_is_seen_once_an_epoch(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    trainer = trainer_of(scorer)
    make = trainer._new

    class Watched:
        def __init__(self, core: Any) -> None:
            self._core = core

        def __getattr__(self, name: str) -> Any:
            return getattr(self._core, name)

        def step(self, indices: list[int], total: int) -> str:
            seen.append(list(indices))
            assert total == 9
            return str(self._core.step(indices, total))

    monkeypatch.setattr(trainer, "_new", lambda model: Watched(make(model)))
    trainer.fit(Drawn(5), epochs=3, batch_size=2)
    assert [len(indices) for indices in seen] == [2, 2, 1] * 3
    epochs = [[index for indices in seen[3 * e : 3 * e + 3] for index in indices] for e in range(3)]
    assert epochs == [trainer._core.order(e, 5) for e in range(3)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_items_that_were_driven_out_are_encoded_again(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(scorer)
    trainer.fit(Drawn(5), epochs=2, batch_size=3)
    expected = trainer.deltas.digest()

    class Forgetful:
        """Keeps three items, as a core does whose memory is short: the first that came goes first, but none needed."""

        def __init__(self, core: Any) -> None:
            self._core = core
            self._kept: list[int] = []
            self._needed: list[int] = []

        def __getattr__(self, name: str) -> Any:
            return getattr(self._core, name)

        def ensure(self, indices: list[int]) -> list[int]:
            self._needed = indices
            return [index for index in indices if index not in self._kept]

        def add(self, index: int, *item: Any) -> None:
            self._core.add(index, *item)
            self._kept.append(index)
            while len(self._kept) > 3:
                self._kept.remove(next(kept for kept in self._kept if kept not in self._needed))

        def step(self, indices: list[int], total: int) -> str:
            assert set(indices) <= set(self._kept)
            return str(self._core.step(indices, total))

    items = Drawn(5)
    trainer = trainer_of(scorer)
    make = trainer._new
    monkeypatch.setattr(trainer, "_new", lambda model: Forgetful(make(model)))
    trainer.fit(items, epochs=2, batch_size=3)
    assert trainer.deltas.digest() == expected
    assert len(items.reads) > 10


@pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_runs_are_equal_bit_for_bit(number: int, scorer: Scorer) -> None:
    def digest(**options: Any) -> str:
        trainer = trainer_of(scorer, **options)
        trainer.fit(Drawn(3), epochs=2, batch_size=2)
        return trainer.deltas.digest()

    with threads(number):
        first = digest()
        assert digest() == first
        assert digest(seed=1) != first
        assert digest(rank=2) == digest(rank=2)


def test_items_are_read_as_they_are_needed(scorer: Scorer) -> None:
    items = Drawn(6)
    trainer_of(scorer).fit(items, epochs=3, batch_size=2)
    # once to see that there is something to learn from, once to encode
    assert sorted(items.reads) == sorted([*range(6)] * 2)
    assert items.reads[:6] == list(range(6))


def test_any_iterable_is_a_dataset(scorer: Scorer) -> None:
    def stream() -> Iterator[MatchItem]:
        yield from (item(number) for number in range(3))

    digests = []
    for items in (stream(), [item(n) for n in range(3)], Drawn(3)):
        trainer = trainer_of(scorer)
        trainer.fit(items, max_steps=3)  # type: ignore[arg-type]
        digests.append(trainer.deltas.digest())
    assert len(set(digests)) == 1


def matching(match: list[list[int]], key: str = "odd one") -> MatchItem:
    found = np.array(match, dtype=bool)
    picture = np.zeros((8, 8, 3), np.uint8)
    return MatchItem(key, [picture] * found.shape[0], [f"text {j}" for j in range(found.shape[1])], found)


# what is given as items, with which options, and a pattern of the message
BAD_ITEMS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "none": ([], {}, "train holds no items"),
    "a number": (3, {}, "train is int"),
    "one item": (matching([[1, 0]]), {}, "train is MatchItem"),
    "a mapping": ({"a": matching([[1, 0]])}, {}, "train is dict"),
    "text": ("items", {}, "train is str"),
    "tuples": ([("a", "b")], {}, "item 0 of train is tuple"),
    "no match": ([matching([[0, 0]])], {}, "'odd one' has no matching pair"),
    "no match for the diffusion loss": (
        [matching([[0]])],
        {"loss": "diffusion"},
        "'odd one' has no matching pair",
    ),
    "nothing but matches": (
        [item(0), matching([[1, 1]])],
        {},
        "'odd one' has nothing to compare .* image or text",
    ),
    "one pair": ([matching([[1]])], {"loss": "cross_entropy"}, "'odd one' .* in_batch=True"),
    "other texts only": ([matching([[1, 0]])], {"negative_kinds": "image"}, "'odd one' .* no image"),
    "other images only": ([matching([[1], [0]])], {"negative_kinds": "text"}, "'odd one' .* no text"),
    "matches apart from the others": ([matching([[1, 0], [1, 0]])], {"negative_kinds": "image"}, "'odd one'"),
}


@pytest.mark.parametrize("name", BAD_ITEMS)
def test_bad_items_are_named(name: str, scorer: Scorer) -> None:
    items, options, pattern = BAD_ITEMS[name]
    trainer = trainer_of(scorer, **options)
    with pytest.raises(DatasetError, match=pattern):
        trainer.fit(items)
    assert trainer.steps == 0


def test_single_pairs_train_against_each_other(scorer: Scorer) -> None:
    pairs = [
        MatchItem(f"pair {n}", item(n).images[:1], item(n).texts[:1], np.ones((1, 1), bool)) for n in range(4)
    ]
    history = trainer_of(scorer, in_batch=True).fit(pairs, batch_size=2)
    assert len(history.steps) == 2
    assert all(row["loss"] > 0 for row in history.steps)
    diffusion = trainer_of(scorer, loss="diffusion").fit(pairs, batch_size=2)
    assert all(row["loss"] > 0 for row in diffusion.steps)


def test_a_batch_of_equal_texts_is_named(scorer: Scorer) -> None:
    pairs = [MatchItem(f"pair {n}", item(n).images[:1], ["a dog"], np.ones((1, 1), bool)) for n in range(2)]
    with pytest.raises(DatasetError, match="in a batch of 'pair .', 'pair .': .*nothing to compare"):
        trainer_of(scorer, in_batch=True).fit(pairs, batch_size=2)


def test_the_temperature_is_found(scorer: Scorer) -> None:
    found = set()
    for batch_size in (1, 2):
        trainer = trainer_of(scorer, temperature=None)
        history = trainer.fit(Drawn(9), epochs=1, batch_size=batch_size)
        assert len(set(history["temperature"])) == 1
        found.add(history["temperature"][0])
        assert trainer.about()["training"]["temperature"] == history["temperature"][0]
        assert f"| temperature | {history['temperature'][0]} |" in trainer.card()
    assert len(found) == 1  # eight items, however many are in a batch
    assert trainer_of(scorer).fit(Drawn(1))["temperature"] == [OPTIONS["temperature"]]


def test_a_temperature_of_each_noise_level(scorer: Scorer) -> None:
    """Scores are then apart by the margin at each level, in the mean over the items."""
    few = scorer.with_config(**{**SCORE, "noise_levels": [0.05, 0.4, 0.95]})

    def apart(level: float, **options: Any) -> tuple[float, dict[str, Any]]:
        """The temperature that is found at one level alone."""
        own = few.with_config(noise_levels=[level])
        row = Trainer(own, layers="up", **options).fit(Drawn(8), batch_size=8)[0]
        return row["temperature"], row

    alone = {level: apart(level)[0] for level in (0.05, 0.4, 0.95)}
    trainer = Trainer(few, layers="up", temperature_schedule="noise", timesteps="config")
    row = trainer.fit(Drawn(8), batch_size=8)[0]
    assert row["temperature"] == pytest.approx(np.mean(list(alone.values())), rel=1e-4)
    # at one level it is the constant one
    constant, measured = apart(0.4)[1], apart(0.4, temperature_schedule="noise")[1]
    assert measured["temperature"] == pytest.approx(constant["temperature"], rel=1e-6)
    assert measured["loss"] == pytest.approx(constant["loss"], rel=1e-5)
    given = apart(0.4, temperature_schedule="noise", temperature=0.5)[1]
    assert given["temperature"] == 0.5


def test_texts_of_other_items_are_negatives(scorer: Scorer) -> None:
    pairs = [
        MatchItem(f"pair {n}", item(n).images[:1], item(n).texts[:1], np.ones((1, 1), bool)) for n in range(4)
    ]
    history = trainer_of(scorer, batch_texts=2).fit(pairs, batch_size=4)
    # an image with its text and two others
    assert [row["rows"] for row in history.steps] == [4 * 3]
    assert history[0]["loss"] > 0
    runs = [trainer_of(scorer, batch_texts=2, seed=seed) for seed in (0, 0, 1)]
    for trainer in runs:
        trainer.fit(pairs, epochs=2, batch_size=2)
    digests = [trainer.deltas.digest() for trainer in runs]
    assert digests[0] == digests[1] != digests[2]
    # items of their own two texts: three more for each image
    assert trainer_of(scorer, batch_texts=3).fit(Drawn(4), batch_size=4)[0]["rows"] == 4 * (4 + 2 * 3)
    equal = [MatchItem(f"pair {n}", pairs[n].images, ["a dog"], pairs[n].match) for n in range(2)]
    with pytest.raises(DatasetError, match="nothing to compare"):
        trainer_of(scorer, batch_texts=2).fit(equal, batch_size=2)
    with pytest.raises(DatasetError, match="nothing to compare"):
        trainer_of(scorer, batch_texts=2).fit(pairs)


def test_epochs_of_batches() -> None:
    def plan(items: int, batch_size: int, in_batch: bool) -> Plan:
        return Plan(items, batch_size, in_batch, 2, None, 1, 1, None)

    def sizes(*arguments: Any) -> list[int]:
        made = plan(*arguments)
        return [len(made.batch(range(made.items), number)) for number in range(made.steps_per_epoch)]

    assert sizes(7, 3, False) == [3, 3, 1]
    assert sizes(7, 3, True) == [3, 4]  # none is left with nobody to be compared with
    assert sizes(8, 3, True) == [3, 3, 2]
    assert sizes(6, 3, True) == [3, 3]
    assert sizes(1, 3, True) == [1]
    assert sizes(3, 1, True) == [1, 1, 1]
    assert sizes(4, 3, True) == [4]
    assert plan(7, 3, False).total == 6
    assert [plan(7, 3, False).epoch(step) for step in range(7)] == [0, 1, 1, 1, 2, 2, 2]


def test_bad_images_are_named(scorer: Scorer, tmp_path: Path) -> None:
    broken = MatchItem("broken", [tmp_path / "missing.png"], ["a", "b"], np.array([[True, False]]))
    trainer = trainer_of(scorer)
    with pytest.raises(ImageError, match=r"item 'broken': there is no file .*missing\.png"):
        trainer.fit([item(0), broken])
    (tmp_path / "missing.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="item 'broken': .*no image known"):
        trainer.fit([item(0), broken])
    assert len(trainer.fit([item(0)])) == 1  # usable after all


WRONG_ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "epochs": ({"epochs": 0}, "epochs is 0"),
    "half an epoch": ({"epochs": 0.5}, "epochs is 0.5"),
    "batch_size": ({"batch_size": True}, "batch_size is True"),
    "max_steps": ({"max_steps": 0}, "max_steps is 0"),
    "checkpoint_every": ({"checkpoint_every": "often"}, "checkpoint_every is 'often'"),
    "validate_every": ({"validate_every": -1}, "validate_every is -1"),
    "patience": ({"patience": 0, "validation": Drawn(1)}, "patience is 0"),
    "patience alone": ({"patience": 3}, "give validation items"),
    "no callback": ({"callbacks": [3]}, "a callback is int"),
    "a class": ({"callbacks": [dict]}, "the class dict"),
    "one callback": ({"callbacks": print}, "expected a list"),
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_wrong_arguments_are_named(name: str, scorer: Scorer) -> None:
    arguments, pattern = WRONG_ARGUMENTS[name]
    with pytest.raises(ConfigError, match=pattern):
        trainer_of(scorer).fit(Drawn(2), **arguments)


def test_comparisons() -> None:
    scores = np.array([[3.0, 1.0], [2.0, 2.0]])
    # rows: 3 > 1, 2 = 2; columns: 3 > 2, 2 > 1
    assert compare(scores, np.eye(2, dtype=bool)) == (3, 1, 4)
    assert compare(np.array([[1.0, 2.0, 3.0]]), np.array([[True, True, False]])) == (0, 0, 2)
    assert compare(np.array([[1.0], [0.0]]), np.array([[True], [False]])) == (1, 0, 1)
    assert compare(scores, np.ones((2, 2), dtype=bool)) == (0, 0, 0)
    assert compare(np.full((1, 2), np.nan), np.array([[True, False]])) == (0, 0, 1)


def test_validation_that_compares_nothing_is_refused(scorer: Scorer) -> None:
    with pytest.raises(DatasetError, match="validation compares nothing"):
        trainer_of(scorer).fit(Drawn(2), [matching([[1, 1]]), matching([[0]])])


def test_validation_is_the_share_of_comparisons(scorer: Scorer) -> None:
    trainer = trainer_of(scorer)
    held_out = [matching([[1, 0]]), item(7), matching([[1]])]
    history = trainer.fit(Drawn(2), held_out)
    won = ties = 0
    for one in held_out[:2]:
        found = compare(trainer._scorer.matrix(one.images, one.texts), one.match)
        won, ties = won + found[0], ties + found[1]
    assert history[0] == {"step": 0, "epoch": 0, "accuracy": won / 5, "comparisons": 5, "ties": ties}


def fake_accuracies(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    left = iter(values)
    monkeypatch.setattr(
        run_module, "measure", lambda *_: {"accuracy": next(left), "comparisons": 8, "ties": 0}
    )


def test_the_best_deltas_are_restored(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_accuracies(monkeypatch, [0.25, 0.5, 0.75, 0.75, 0.5])
    digests: dict[int, str] = {}

    class Watch:
        def on_validation(self, trainer: Trainer, row: dict[str, Any]) -> None:
            digests[row["step"]] = trainer.deltas.digest()

    trainer = trainer_of(scorer)
    history = trainer.fit(Drawn(2), Drawn(1), epochs=4, callbacks=[Watch()])
    assert len(set(digests.values())) == 5
    assert trainer.deltas.digest() == digests[4]  # the first of equals
    assert trainer.steps == 4
    assert history.best == {"step": 4, "epoch": 2, "accuracy": 0.75, "comparisons": 8, "ties": 0}
    assert trainer.about()["training"]["validation"] == history.best
    assert "after step 4, which were best" in trainer.card()


def test_patience_ends_a_run(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_accuracies(monkeypatch, [0.25, 0.5, 0.5, 0.25, 1.0])
    history = trainer_of(scorer).fit(Drawn(2), Drawn(1), epochs=10, patience=2)
    assert [row["step"] for row in history.validations] == [0, 2, 4, 6]
    assert len(history.steps) == 6


def test_validate_every(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_accuracies(monkeypatch, [0.0] * 9)
    history = trainer_of(scorer).fit(Drawn(2), Drawn(1), epochs=5, validate_every=2)
    assert [row["step"] for row in history.validations] == [0, 4, 8, 10]
    fake_accuracies(monkeypatch, [0.0] * 9)
    history = trainer_of(scorer).fit(Drawn(2), Drawn(1), epochs=5, max_steps=3)
    assert [(row["step"], row["epoch"]) for row in history.validations] == [(0, 0), (2, 1), (3, 2)]


def test_callbacks_are_called_in_order(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_accuracies(monkeypatch, [0.0] * 3)
    calls: list[Any] = []

    class Whole:
        def on_step(self, trainer: Trainer, row: dict[str, Any]) -> None:
            calls.append(("step", row["step"], trainer.steps, len(trainer.history)))
            row.clear()

        def on_validation(self, trainer: Trainer, row: dict[str, Any]) -> None:
            calls.append(("validation", row["step"]))

        def on_end(self, trainer: Trainer, history: Any) -> None:
            calls.append(("end", len(history)))

    class EndOnly:
        def on_end(self, trainer: Trainer, history: Any) -> None:
            calls.append("second end")

    history = trainer_of(scorer).fit(
        Drawn(2), Drawn(1), callbacks=[Whole(), EndOnly(), lambda row: calls.append(("row", row["step"]))]
    )
    assert calls == [
        ("validation", 0), ("row", 0), ("step", 1, 1, 2), ("row", 1), ("step", 2, 2, 3), ("row", 2),
        ("validation", 2), ("row", 2), ("end", 4), "second end",
    ]  # fmt: skip
    assert [list(row) for row in history.steps] == [STEP_COLUMNS] * 2


def test_progress(scorer: Scorer, capsys: pytest.CaptureFixture[str]) -> None:
    reports: list[tuple[int, int]] = []
    trainer_of(scorer).fit(Drawn(3), progress=lambda done, total: reports.append((done, total)))
    assert reports == [(0, 3), (1, 3), (2, 3), (3, 3)]
    trainer_of(scorer).fit(Drawn(1))
    assert capsys.readouterr().err == ""
    trainer_of(scorer).fit(Drawn(1), progress=True)
    assert "1/1" in capsys.readouterr().err


def test_a_second_fit_goes_on_from_the_deltas(scorer: Scorer, picture: np.ndarray) -> None:
    trainer = trainer_of(scorer)
    trainer.fit(Drawn(2))
    first = trainer.deltas.digest()
    snapshot = trainer.scorer
    score = snapshot.score(picture, "a red circle")
    history = trainer.fit(Drawn(3, first=3))
    assert history["step"] == [1, 2, 3]
    assert trainer.deltas.digest() != first
    assert snapshot.deltas is not None
    assert snapshot.deltas.digest() == first
    assert snapshot.score(picture, "a red circle") == score
    # the same in two trainers, as in pre-training and few-shot training
    other = Trainer(snapshot, **trainer.options)
    other.fit(Drawn(3, first=3))
    assert other.deltas.digest() == trainer.deltas.digest()
    assert other.about()["before"]["training"]["steps"] == 2


def test_the_scorer_may_change_and_close(tiny: Path) -> None:
    with Scorer(tiny, device="cpu") as scorer:
        trainer = trainer_of(scorer)
    trainer.fit(Drawn(1))
    assert trainer.scorer.deltas is not None


def test_save_and_export(scorer: Scorer, tmp_path: Path, picture: np.ndarray) -> None:
    trainer = trainer_of(scorer, rank=2)
    trainer.fit(Drawn(2), Drawn(1, first=5), epochs=2)
    path = tmp_path / "deltas.safetensors"
    trainer.save(path)
    loaded = trainer._scorer.with_config()
    loaded.load_deltas(path)
    assert loaded.deltas is not None
    assert loaded.deltas.digest() == trainer.deltas.digest()
    assert loaded.score(picture, "a dog") == trainer.scorer.score(picture, "a dog")
    told = loaded.deltas.metadata
    assert told["base_model"] == scorer.model_id
    assert told["training_options"] == trainer.options
    assert told["score_config"] == trainer.config.to_dict()
    assert told["data"]["train"]["items"] == 2
    assert told["data"]["train"]["source"] == "Drawn"
    assert told["training"]["steps"] == trainer.steps
    assert told["package"].startswith("discffusion ")
    assert trainer.export_lora(tmp_path / "lora.safetensors") == 0
    exported = trainer._scorer.with_config()
    exported.load_deltas(tmp_path / "lora.safetensors")
    assert exported.score(picture, "a dog") == pytest.approx(trainer.scorer.score(picture, "a dog"), rel=1e-5)


def test_the_card_tells_what_was_done(scorer: Scorer) -> None:
    trainer = trainer_of(scorer)
    assert "No step was done" in trainer.card()
    history = trainer.fit(Drawn(3), epochs=2)
    card = trainer.card()
    assert f"6 steps in 2 epochs; mean loss {sum(history['loss'][:3]) / 3:.4g} in the first" in card
    assert f"{history['loss'][-1]:.4g} at the last step" in card
    assert "- train: 3 items of Drawn" in card
    assert "There was none." in card
    for name, value in {**trainer.options, "timesteps": "range"}.items():
        assert f"| {name} | {'' if value is None else value} |" in card
    for entry in trainer.deltas.entries:
        assert f"| {entry['site']} | cross | {entry['projection']} | {entry['norm']:.4g} |" in card
    code = card.split("```python\n")[1].split("```")[0]
    assert f"Scorer({scorer.model_id!r}, method='attention', layers='last(2)'" in code


def test_a_loss_that_is_not_finite_ends_the_run(scorer: Scorer, tmp_path: Path) -> None:
    trainer = trainer_of(scorer, learning_rate=1e30, weight_decay=0)
    with pytest.raises(TrainingError, match="step") as caught:
        trainer.fit(Drawn(2), epochs=20, checkpoint_dir=tmp_path)
    assert isinstance(caught.value, RuntimeError)
    done = trainer.steps
    assert 0 < done < 40
    assert all(np.isfinite(row["loss"]) for row in trainer.history)
    assert [row["step"] for row in trainer.history] == list(range(1, done + 1))
    assert (tmp_path / f"step-{done:08}.safetensors").is_file()


def test_ctrl_c_leaves_the_trainer_usable(scorer: Scorer, tmp_path: Path) -> None:
    run: dict[str, Any] = {"epochs": 10_000, "checkpoint_dir": tmp_path, "checkpoint_every": 10_000}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is deaf to it
    trainer = trainer_of(scorer)
    done = 0
    try:
        for number in range(8):  # at different places of a step or between two
            timer = threading.Timer(0.004 * number, os.kill, (os.getpid(), signal.SIGINT))

            def start(row: dict[str, Any], timer: threading.Timer = timer, at: int = done + 2) -> None:
                if row["step"] == at:
                    timer.start()

            with pytest.raises(KeyboardInterrupt):
                trainer.fit(Drawn(4), callbacks=[start], **run)
            timer.join()
            assert trainer.steps >= done + 2
            done = trainer.steps
            assert trainer.history["step"] == list(range(1, done + 1))
            assert (tmp_path / f"step-{done:08}.safetensors").is_file()
    finally:
        signal.signal(signal.SIGINT, before)
    assert trainer.scorer.deltas is not None
    history = trainer.fit(Drawn(4), max_steps=done + 2, **run)
    assert history["step"] == list(range(1, done + 3))
    undisturbed = trainer_of(scorer)
    undisturbed.fit(Drawn(4), epochs=10_000, max_steps=done + 2)
    assert trainer.deltas.digest() == undisturbed.deltas.digest()


def test_the_repr_says_what_differs(scorer: Scorer) -> None:
    trainer = trainer_of(scorer, rank=3)
    shown = repr(trainer)
    assert "rank=3" in shown
    assert "learning_rate=0.003" in shown
    assert "weight_decay" not in shown
    assert f"{trainer.num_parameters:,} parameters, 0 steps" in shown
    assert trainer.num_parameters == trainer.deltas.num_parameters
