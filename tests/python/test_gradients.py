"""A tensor of a graph draws a warning: the gradient that its owner may count on is lost."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from discffusion import Observation, Scorer

TEXT = "a red circle"


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))


def calls(scorer: Scorer) -> dict[str, Any]:
    return {
        "score": lambda x: scorer.score(x, TEXT),
        "scores": lambda x: scorer.score([x], [TEXT]),
        "batch": lambda x: scorer.score(x[None], [TEXT]),
        "matrix": lambda x: scorer.matrix(x, [TEXT]),
        "rank": lambda x: scorer.rank(x, [TEXT, "a cat"]),
        "observe": lambda x: scorer.observe(x, TEXT),
        "explain": lambda x: scorer.explain(x, TEXT).score,
        "encode_images": lambda x: scorer.encode_images(x),
        "embed_images": lambda x: scorer.embed_images(x),
        "head_weights": lambda x: scorer.head_weights(x, TEXT),
        "head_scores": lambda x: scorer.head_scores(x, [TEXT], [(0, 0)]).layers,
    }


@pytest.mark.parametrize(
    "call",
    "score scores batch matrix rank observe explain encode_images embed_images head_weights head_scores".split(),
)
def test_images(scorer: Scorer, image: torch.Tensor, call: str) -> None:
    run = calls(scorer)[call]
    leaf, made = image.clone().requires_grad_(), image.clone().requires_grad_() * 1.0
    for tensor in (leaf, made):
        with pytest.warns(
            UserWarning, match=r"an image is a tensor that requires a gradient.*tensor\.detach\(\)"
        ) as told:
            found = run(tensor)
        assert [each.filename for each in told] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_equal(plain(found), plain(run(tensor.detach())))


def plain(found: Any) -> Any:
    return found.maps if isinstance(found, Observation) else found


def test_a_loop_is_told_once(scorer: Scorer, image: torch.Tensor) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(3):
            scorer.score(image.clone().requires_grad_(), TEXT)
    assert len(told) == 1


def test_detached_is_the_same_picture(scorer: Scorer, image: torch.Tensor) -> None:
    with torch.no_grad():
        made = image * torch.ones(3, 16, 16, requires_grad=True)  # nothing is recorded here
    assert scorer.score(made, TEXT) == scorer.score(image, TEXT)
    assert scorer.score(image.clone().requires_grad_().detach(), TEXT) == scorer.score(image, TEXT)


def test_noise_and_latents(scorer: Scorer, image: torch.Tensor) -> None:
    shape = scorer.encode_images(image).shape[1:]
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    expected = scorer.score(image, TEXT, noise=noise.numpy())
    assert scorer.score(image, TEXT, noise=noise) == expected
    with pytest.warns(UserWarning, match=r"noise is a tensor that requires a gradient.*\.detach\(\)"):
        assert scorer.score(image, TEXT, noise=noise.requires_grad_()) == expected
    latents = torch.zeros(1, *shape, requires_grad=True)
    with pytest.warns(UserWarning, match="latents is a tensor that requires a gradient"):
        made = scorer.generate(TEXT, steps=1, latents=latents)
    np.testing.assert_array_equal(made, scorer.generate(TEXT, steps=1, latents=latents.detach()))
    with pytest.warns(UserWarning, match="latents is a tensor that requires a gradient"):
        scorer.decode_latents(latents)


def test_noise_of_any_float(scorer: Scorer, image: torch.Tensor) -> None:
    shape = scorer.encode_images(image).shape[1:]
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert scorer.score(image, TEXT, noise=noise) == scorer.score(image, TEXT, noise=noise.float().numpy())
    assert scorer.score(image, TEXT, noise=noise.double()) == scorer.score(
        image, TEXT, noise=np.asarray(noise.double())
    )
