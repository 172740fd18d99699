"""The development measurement: comparisons, intervals and batches."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("diffusers")

from tools.pocket.architecture import build_scheduler  # noqa: E402
from tools.pocket.diffusion import Material, Recipe, _batch, build  # noqa: E402
from tools.pocket.evaluation import Questions  # noqa: E402
from tools.pocket.measure import accuracy, at, attention_scores, denoising_scores, options, read  # noqa: E402
from tools.pocket.report import open_model, wilson  # noqa: E402
from tools.pocket.tokenizer import open_tokenizer  # noqa: E402

from discffusion.bench.reference.model import Reference  # noqa: E402
from discffusion.bench.reference.pooling import attention_score  # noqa: E402
from discffusion.pocket import MODEL_DIR  # noqa: E402


def test_ties_are_wrong_and_the_diagonal_right() -> None:
    assert accuracy(np.eye(2)[None]).mean() == 1
    assert accuracy(1 - np.eye(2)[None]).mean() == 0
    assert accuracy(np.ones((1, 2, 2))).mean() == 0
    assert accuracy(np.array([[[2, 1], [1, 0]]])).tolist() == [[True, False, True, False]]


def test_wilson() -> None:
    low, high = wilson(0.5, 100)
    assert low == pytest.approx(0.4038, abs=1e-3) and high == pytest.approx(0.5962, abs=1e-3)


def test_readings_have_their_shapes_and_leave_the_model_as_it_was() -> None:
    model = build(604, 602, 603).eval()
    latents = torch.randn(3, 2, 4, 8, 8)
    tokens = torch.full((3, 2, 77), 603)
    tokens[..., 0], tokens[..., 1:4] = 602, torch.randint(0, 600, (3, 2, 3))
    before = {name: type(p) for name, p in model.unet.attn_processors.items()}
    found = read(model, latents, tokens, [999, 500], wanted=options()[:2], chunk=2)
    assert {name: type(p) for name, p in model.unet.attn_processors.items()} == before
    assert found.error.shape == (3, 2, 2, 2) and found.blank.shape == (3, 2, 2)
    assert all(pooled.shape == (3, 2, 2, 2, 7) for pooled in found.pooled.values())
    one = at(found, [500])
    assert all(scores.shape == (3, 2, 2) for scores in denoising_scores(one).values())
    assert all(scores.shape == (3, 2, 2) for scores in attention_scores(one, 1).values())
    assert found.signal[0] == 0  # nothing of the picture is left at the last timestep


def test_workers_share_one_batch() -> None:
    material = Material(
        torch.randn(20, 4, 8, 8), torch.arange(30 * 77).reshape(30, 77), np.arange(80).reshape(20, 4) % 30
    )
    recipe, abar = Recipe(captions=8, draws=2), build_scheduler().alphas_cumprod
    whole = _batch(material, recipe, abar, 5, 0, 1)
    first, second = (_batch(material, recipe, abar, 5, rank, 2) for rank in range(2))
    for all_of_it, a, b in zip(whole, first, second, strict=True):
        assert torch.equal(all_of_it[::2], a) and torch.equal(all_of_it[1::2], b)
    assert recipe.rate_at(0) < recipe.rate_at(500) > recipe.rate_at(recipe.steps - 1)


def test_readings_are_those_of_the_bundled_model() -> None:
    """Every option against the pooling of one map at a time, which the parity tests hold the core to."""
    model, vae = open_model(MODEL_DIR)
    questions = Questions(
        vae, open_tokenizer(MODEL_DIR / "tokenizer"), "eval", 1, seed=4, subsets=("subject",)
    )
    latents, tokens = questions.encoded["subject"]
    readings = read(model, latents, tokens, [501], seed=3)
    noise = torch.randn((1, 1, 1, 4, 8, 8), generator=torch.Generator().manual_seed(3 * 100003))[0, 0, 0]
    reference = Reference(MODEL_DIR)
    for j, ids in enumerate(tokens[0]):
        text = reference.tokenizer.decode(ids, skip_special_tokens=True)
        seen = reference.observe(reference.noised(latents[0, 1], noise, 501), 501, reference.condition(text))
        for option in options():
            kind, pooling, which = option.split("/")
            maps = {name: seen.map(name, kind) for name in readings.layers}
            if which == "content":
                maps = {name: one[..., reference.tokens(text)[1]] for name, one in maps.items()}
            how = (
                {"pooling": "lse", "lambda_": float(pooling[3:])}
                if "lse" in pooling
                else {"pooling": pooling}
            )
            expected = [attention_score({name: one}, **how) for name, one in maps.items()]
            np.testing.assert_allclose(
                readings.pooled[option][0, 1, j, 0], expected, rtol=1e-4, err_msg=option
            )
