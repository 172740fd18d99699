"""What is learned from few items: losses by hand, determinism, files, and what must not change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from discffusion import MatchItem
from discffusion.baselines import load_baseline
from discffusion.baselines.fitting import item_loss
from discffusion.errors import ConfigError, DatasetError, DeltasError, TrainingError

KINDS = [
    ("clip-tuned", {}),
    ("clip-tuned", {"layers": "last_block"}),
    ("cocoop", {}),
    ("cocoop", {"context": "a photo of"}),
]
FIT: dict[str, Any] = {"epochs": 3, "batch_size": 3, "progress": False}


def right(baseline: Any, items: list[MatchItem]) -> float:
    """The least difference of a matching pair to another one of its row or column."""
    gaps = []
    for item in items:
        scores = baseline.matrix(item.images, item.texts)
        for i, j in zip(*np.nonzero(item.match), strict=True):
            others = [*scores[i][~item.match[i]], *scores[:, j][~item.match[:, j]]]
            gaps.append(scores[i, j] - max(others))
    return float(min(gaps))


def test_losses_by_hand() -> None:
    scores = torch.tensor([[0.5, 0.2], [0.4, 0.1]])
    match = np.eye(2, dtype=bool)
    # (0, 0) against 0.2 in its row and 0.4 in its column; (1, 1) against 0.4 and 0.2
    hinges = [0.0, 0.1, 0.5, 0.3]
    assert item_loss(scores, match, "triplet", 1.0, 0.2).item() == pytest.approx(np.mean(hinges))
    terms = [math.log1p(math.exp(10 * gap)) for gap in (-0.3, -0.1, 0.3, 0.1)]
    assert item_loss(scores, match, "contrastive", 10.0, 0.2).item() == pytest.approx(np.mean(terms))
    row = torch.tensor([[0.1, 0.5, 0.3]])
    hardest = item_loss(row, np.array([[True, False, False]]), "triplet", 1.0, 0.2)
    assert hardest.item() == pytest.approx(0.6)  # one image: nothing in a column
    soft = item_loss(row, np.array([[True, False, False]]), "contrastive", 1.0, 0.2)
    assert soft.item() == pytest.approx(math.log(1 + math.exp(0.4) + math.exp(0.2)))


@pytest.mark.parametrize(("name", "options"), KINDS)
@pytest.mark.parametrize("loss", ["contrastive", "triplet"])
def test_items_are_learned(
    name: str, options: dict[str, Any], loss: str, clip_folder: Path, items: list[MatchItem]
) -> None:
    baseline = load_baseline(name, model=clip_folder, **options)
    rows = baseline.fit(items, epochs=40, batch_size=2, learning_rate=0.02, loss=loss)
    assert [row["epoch"] for row in rows] == list(range(1, 41))
    assert rows[-1]["loss"] < 0.3 * rows[0]["loss"]
    assert right(load_baseline("clip", model=clip_folder), items) < 0 < right(baseline, items)


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_the_same_call_learns_the_same(
    name: str, options: dict[str, Any], clip_folder: Path, items: list[MatchItem], tmp_path: Path
) -> None:
    baseline = load_baseline(name, model=clip_folder, **options)
    rows = baseline.fit(items, **FIT)
    first, told = baseline.matrix(items[0].images, items[0].texts), baseline.describe()
    baseline.save(tmp_path / "learned.safetensors")
    other = load_baseline(name, model=clip_folder, weights=tmp_path / "learned.safetensors", **options)
    assert (other.matrix(items[0].images, items[0].texts) == first).all()
    assert other.describe() == told and told["deltas"] is not None
    assert baseline.fit(items, **{**FIT, "seed": 1}) != rows
    assert baseline.describe()["deltas"] != told["deltas"]
    assert baseline.fit(items, **FIT) == rows  # from the published weights again, not from the last ones
    assert baseline.describe() == told
    torch.manual_seed(5)
    assert load_baseline(name, model=clip_folder, **options).fit(items, **FIT) == rows
    other.load(tmp_path / "learned.safetensors")
    assert other.describe() == told


@pytest.mark.parametrize(
    ("layers", "changed"),
    [
        ("projections", {"visual_projection.weight", "text_projection.weight"}),
        ("last_block", {"vision_model.encoder.layers.1", "text_model.encoder.layers.1"}),
    ],
)
def test_only_the_last_layer_changes(
    layers: str, changed: set[str], clip_folder: Path, items: list[MatchItem]
) -> None:
    tuned, plain = (
        load_baseline("clip-tuned", model=clip_folder, layers=layers),
        load_baseline("clip", model=clip_folder),
    )
    tuned.fit(items, **FIT)
    before, after = plain._model.state_dict(), tuned._model.state_dict()
    differ = {name for name in before if not torch.equal(before[name], after[name])}
    assert {next((part for part in changed if name.startswith(part)), name) for name in differ} == changed
    assert tuned.describe()["fingerprint"] == plain.describe()["fingerprint"]
    assert not any(parameter.requires_grad for parameter in tuned._model.parameters())


@pytest.mark.parametrize("layers", ["projections", "last_block"])
def test_nothing_learned_is_clip_itself(layers: str, clip_folder: Path, items: list[MatchItem]) -> None:
    tuned = load_baseline("clip-tuned", model=clip_folder, layers=layers)
    tuned.fit(items, epochs=1, learning_rate=0.0)
    images, texts = items[0].images, items[0].texts
    plain = load_baseline("clip", model=clip_folder).matrix(images, texts)
    np.testing.assert_allclose(tuned.matrix(images, texts), plain, atol=1e-6)


def test_a_prompt_of_words_is_those_words(
    clip_folder: Path, items: list[MatchItem], images: list[np.ndarray]
) -> None:
    cocoop = load_baseline("cocoop", model=clip_folder, context="a photo of")
    cocoop.fit(items, epochs=1, learning_rate=0.0)
    plain = load_baseline("clip", model=clip_folder)
    texts = ["a red circle", "the dog", "a blue square left of a dog"]
    expected = plain.matrix(images, ["a photo of " + text for text in texts])
    np.testing.assert_allclose(cocoop.matrix(images, texts), expected, atol=1e-6)
    assert cocoop.count_tokens(["a dog " * 30]) == [(62, True)]
    cut = cocoop.matrix(
        images, "a dog " * 30
    )  # 24 tokens: begin, three of context, nineteen of the text, end
    np.testing.assert_allclose(cut, plain.matrix(images, "a photo of " + "a dog " * 9 + "a"), atol=1e-6)


def test_a_prompt_depends_on_the_image(
    clip_folder: Path, items: list[MatchItem], images: list[np.ndarray]
) -> None:
    cocoop = load_baseline("cocoop", model=clip_folder, batch_size=3)
    cocoop.fit(items, epochs=5, learning_rate=0.02)
    learned = {name: value.abs().max().item() for name, value in cocoop._learned.items()}
    assert learned["meta.out.weight"] > 0 and learned["meta.out.bias"] > 0
    texts = ["a dog", "a red circle on the grass", "yellow"]
    whole = cocoop.matrix(images, texts)
    cells = [[cocoop.matrix(image, text)[0, 0] for text in texts] for image in images]
    np.testing.assert_allclose(whole, cells, atol=1e-6)
    words = cocoop._conditional(torch.from_numpy(cocoop.embed_images(images)), cocoop._tokens(["a dog"] * 3))
    assert not torch.allclose(words[0], words[1], atol=1e-5)


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_before_anything_is_learned(
    name: str, options: dict[str, Any], clip_folder: Path, images: list[np.ndarray], tmp_path: Path
) -> None:
    baseline = load_baseline(name, model=clip_folder, **options)
    with pytest.raises(ConfigError, match=r"has learned nothing yet: call fit\(items\)"):
        baseline.matrix(images, ["a dog"])
    with pytest.raises(ConfigError, match="has learned nothing yet"):
        baseline.save(tmp_path / "file.safetensors")
    assert baseline.describe()["deltas"] is None and list(tmp_path.iterdir()) == []


def test_files_of_others_are_refused(clip_folder: Path, items: list[MatchItem], tmp_path: Path) -> None:
    from tests.python.baselines.tiny import write_clip

    tuned = load_baseline("clip-tuned", model=clip_folder)
    tuned.fit(items, **FIT)
    file = tmp_path / "learned.safetensors"
    tuned.save(file)
    other = load_baseline("clip-tuned", model=write_clip(tmp_path / "other", seed=1))
    with pytest.raises(DeltasError, match="belongs to the fingerprint"):
        other.load(file)
    with pytest.raises(DeltasError, match="belongs to the baseline 'clip-tuned', and this is 'cocoop'"):
        load_baseline("cocoop", model=clip_folder, weights=file)
    with pytest.raises(DeltasError, match="does not hold what clip-tuned with these options learns"):
        load_baseline("clip-tuned", model=clip_folder, layers="last_block", weights=file)
    (tmp_path / "broken.safetensors").write_bytes(file.read_bytes()[:100])
    for name in ("broken", "missing"):
        with pytest.raises(DeltasError, match="cannot be read"):
            tuned.load(tmp_path / f"{name}.safetensors")


def test_a_failure_leaves_what_there_was(
    clip_folder: Path, items: list[MatchItem], images: list[np.ndarray]
) -> None:
    tuned = load_baseline("clip-tuned", model=clip_folder)
    tuned.fit(items, **FIT)
    before, told = tuned.matrix(images, ["a dog"]), tuned.describe()
    with pytest.raises(TrainingError, match="lower learning_rate"):
        tuned.fit(items, epochs=3, learning_rate=1e37)
    assert (tuned.matrix(images, ["a dog"]) == before).all() and tuned.describe() == told
    assert not any(parameter.requires_grad for parameter in tuned._model.parameters())


@pytest.mark.parametrize(
    ("match", "said"),
    [
        (np.zeros((2, 2), dtype=bool), "'odd' has no matching pair"),
        (np.ones((2, 2), dtype=bool), "'odd' has nothing to compare"),
    ],
)
def test_items_that_teach_nothing(
    clip_folder: Path, items: list[MatchItem], match: np.ndarray, said: str
) -> None:
    odd = MatchItem("odd", items[0].images, items[0].texts, match)
    with pytest.raises(DatasetError, match=said):
        load_baseline("clip-tuned", model=clip_folder).fit([*items, odd])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"seed": -1}, "seed is -1"),
        ({"learning_rate": -1e-3}, "learning_rate is -0.001"),
        ({"learning_rate": math.inf}, "learning_rate is inf"),
        ({"margin": "wide"}, "margin is 'wide'"),
        ({"loss": "hinge"}, "loss is 'hinge'; expected contrastive or triplet"),
    ],
)
def test_bad_fit_options(
    clip_folder: Path, items: list[MatchItem], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        load_baseline("clip-tuned", model=clip_folder).fit(items, **options)


def test_other_bad_options(clip_folder: Path, items: list[MatchItem]) -> None:
    with pytest.raises(DatasetError, match="items holds no items"):
        load_baseline("clip-tuned", model=clip_folder).fit([])
    with pytest.raises(ConfigError, match="dtype='float32'"):
        load_baseline("clip-tuned", model=clip_folder, dtype="bfloat16").fit(items)
    with pytest.raises(ConfigError, match="layers is 'all'"):
        load_baseline("clip-tuned", model=clip_folder, layers="all")
    for context in (0, "", 22, None):
        with pytest.raises(ConfigError, match="context"):
            load_baseline("cocoop", model=clip_folder, context=context)
