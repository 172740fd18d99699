"""Staged elimination by the scorer: the same scores for less work, in rank, evaluate and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from discffusion import Scorer, evaluate, load_dataset
from discffusion.cli import build_app
from discffusion.errors import ConfigError
from discffusion.staged import Staged

TEXTS = [f"a picture of {thing}" for thing in ("a dog", "a cat", "two birds", "a red car", "a tree", "rain")]
TIMES = list(range(100, 900, 100))


@pytest.fixture(scope="module")
def model(tiny: Path) -> Scorer:
    return Scorer(tiny, device="cpu", resolution=64, timesteps=TIMES)


@pytest.mark.parametrize("method", ["attention", "denoising", "combined"])
def test_what_comes_through_has_its_own_score(model: Scorer, picture: np.ndarray, method: str) -> None:
    scorer = model.with_config(method=method)
    full = scorer.matrix(picture, TEXTS)[0]
    ranked = scorer.rank(picture, TEXTS, stages=(2, 4, 8), keep=(0.5, 0.6))
    assert len(ranked) == 2  # of six three, of three two
    for index, score in ranked:
        assert score == pytest.approx(full[index], abs=2e-6 * max(1.0, abs(full[index])) + 4e-6)
    assert ranked == sorted(ranked, key=lambda pair: -pair[1])


def test_images_are_ranked_too_and_enough_of_them_are_kept(model: Scorer, picture: np.ndarray) -> None:
    pictures = [picture, 255 - picture, picture[::-1], picture[:, ::-1], picture]
    full = model.matrix(pictures, TEXTS[0])[:, 0]
    ranked = model.rank(pictures, TEXTS[0], 4, stages=(2, 8), keep=0.2)
    assert len(ranked) == 4
    assert all(score == pytest.approx(full[index], abs=1e-6) for index, score in ranked)


def test_given_noise_counts(model: Scorer, picture: np.ndarray) -> None:
    shape = (len(TIMES), *model.encode_images(picture).shape[1:])
    noise = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    full = model.matrix(picture, TEXTS, noise=noise)[0]
    ((index, score),) = model.rank(picture, TEXTS, 1, stages=(4, 8), keep=0.2, noise=noise)
    assert score == pytest.approx(full[index], abs=1e-6)
    assert score != pytest.approx(model.matrix(picture, TEXTS)[0, index], abs=1e-6)


def test_images_and_texts_are_encoded_once(
    model: Scorer, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []
    prepare = Scorer._prepare

    def counting(self: Scorer, images: list[Any], texts: list[str], noise: Any) -> Any:
        calls.append((len(images), len(texts)))
        return prepare(self, images, texts, noise)

    monkeypatch.setattr(Scorer, "_prepare", counting)
    seen: list[tuple[int, int]] = []
    model.rank(
        picture,
        [*TEXTS, TEXTS[0]],
        stages=(2, 4, 8),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert calls == [(1, len(TEXTS))]
    assert seen[-1][0] == seen[-1][1] and all(a[0] <= b[0] for a, b in zip(seen, seen[1:], strict=False))


def test_evaluate_says_what_was_left_out_and_whether_winners_agree(tmp_path: Path) -> None:
    scorer = Scorer(device="cpu", method="denoising", steps=16)
    items = load_dataset("shapes", split="eval", subset="referring", n=6)
    rows = tmp_path / "rows.jsonl"
    report = evaluate(scorer, items, output=rows, stages=(4, 16), keep=0.3, verify=2, progress=False)
    plain = evaluate(scorer, items, progress=False)
    computed = 6 * (10 * 4 + 3 * 12)
    assert any(f"{computed} of {6 * 10 * 16} evaluations" in note for note in report.notes)
    assert any("in 2 of 2 cases" in note for note in report.notes)
    assert report["accuracy"].value == plain["accuracy"].value
    for staged, full in zip(report.records, plain.records, strict=True):
        best = staged.scores.argmax()
        assert staged.scores[0, best] == pytest.approx(full.scores[0, best], rel=1e-5)
    with pytest.raises(ConfigError, match="stages"):
        evaluate(scorer, items, output=rows, progress=False)


def test_verification_finds_a_wrong_winner(model: Scorer) -> None:
    staged = Staged(model, (1, 8), 0.5)
    staged._compare(np.array([[3.0, 2.0, 1.0]]), np.array([[1.0, 2.0, 0.0]]))
    staged._compare(np.array([[3.0, 2.0], [1.0, 0.0]]), np.array([[3.0, 2.0], [1.0, 0.0]]))
    assert (staged.verified, staged.agreed) == (5, 4)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m, x: m.rank(x, TEXTS, stages=(4, 9)), "the score has 8 timesteps"),
        (lambda m, x: m.rank(x, TEXTS, keep=0.5), "no stages"),
        (lambda m, x: m.rank(x, TEXTS, stages=(2, 8), keep=2), "keep is 2"),
        (lambda m, x: m.staged((2, 8), least=0), "least is 0"),
        (lambda m, x: evaluate(m, [], keep=0.5), "no stages"),
        (lambda m, x: evaluate(m, [], verify=2), "no stages"),
        (lambda m, x: evaluate(m.staged((2, 8)), [], stages=(2, 8)), "stages need a Scorer"),
    ],
)
def test_what_does_not_go_together(model: Scorer, picture: np.ndarray, call: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        call(model, picture)


def test_command_line(tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    item = load_dataset("shapes", subset="referring", n=1)[0]
    Image.fromarray(np.asarray(item.images[0])).save(image)
    app, run = build_app(), CliRunner().invoke
    texts = [part for text in item.texts for part in ("-t", text)]
    common = ["rank", str(image), *texts, "--method", "denoising", "--steps", "8", "--device", "cpu"]
    found = run(app, [*common, "--stages", "2,8", "--keep", "0.3", "--json"])
    assert found.exit_code == 0, found.output
    ranking = json.loads(found.stdout)["ranking"]
    assert [row["rank"] for row in ranking] == [1, 2, 3]
    assert run(app, [*common, "--stages", "2,x"]).exit_code == 2
    assert run(app, [*common, "--keep", "0.3"]).exit_code == 2
    arguments = "eval shapes --subset referring --limit 2 --method denoising --steps 8 --device cpu"
    ran = run(app, [*arguments.split(), "--stages", "2,8", "--keep", "0.3", "--verify", "1"])
    assert ran.exit_code == 0, ran.output
    assert "staged elimination (2, 8)" in ran.stdout and "of 1 cases" in ran.stdout
