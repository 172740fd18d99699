"""Maps against what `observe` shows, added up by hand, and where they come to lie on the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from discffusion import ConfigError, Scorer

TEXT = "a blue square left of a dog"
TIMES = (100, 400, 400, 900)


def by_hand(scorer: Scorer, picture: np.ndarray, kind: str, text: str = TEXT) -> tuple[Any, ...]:
    """Maps ``[heads, tokens, h, w]`` by layer, and ``[steps, tokens, s, s]`` over all layers, from `observe`."""
    layers: dict[str, list[torch.Tensor]] = {}
    by_time = []
    noise = scorer._model.noise(scorer.config)
    for step, timestep in enumerate(TIMES):
        seen = scorer.observe(picture, text, timestep, map=kind, noise=noise[step])
        own = seen.tokens.content
        grids = []
        for site, maps in seen.maps.items():
            found = torch.from_numpy(maps)
            named, padding = found[..., : own.stop + 1], found[..., own.stop + 1 :]
            found = torch.cat([named, padding.mean(-1, keepdim=True)], -1)
            side = round(maps.shape[1] ** 0.5)
            found = found.permute(0, 2, 1).reshape(len(maps), -1, side, side)
            layers.setdefault(site, []).append(found)
            grids.append(found.mean(0, keepdim=True))
        most = max(grid.shape[-1] for grid in grids)
        large = [
            torch.nn.functional.interpolate(grid, (most, most), mode="bilinear", align_corners=False)
            for grid in grids
        ]
        by_time.append(torch.cat(large).mean(0))
    return {site: torch.stack(of).mean(0).numpy() for site, of in layers.items()}, torch.stack(
        by_time
    ).numpy()


@pytest.mark.parametrize("kind", ["probs", "logits", "cosine"])
def test_maps_are_those_that_observe_shows(scorer: Scorer, picture: np.ndarray, kind: str) -> None:
    other = scorer.with_config(timesteps=TIMES)
    layers, by_time = by_hand(other, picture, kind)
    explained = other.explain(picture, TEXT, map=kind, layers="all")
    assert list(explained.layer_maps) == list(layers)
    for site, maps in layers.items():
        np.testing.assert_allclose(explained.layer_maps[site], maps, atol=2e-5, rtol=1e-4)
    np.testing.assert_allclose(explained.timestep_maps, by_time, atol=2e-5, rtol=1e-4)
    assert explained.maps.shape == (len(explained.tokens), 24, 40)
    assert explained.maps.dtype == np.float32
    of_square = explained.map_of("square", timestep=400)
    index = explained.words[2].tokens
    on_grid = by_time[1:3, list(index)].mean(axis=(0, 1))
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(on_grid)[None, None], (24, 40), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(of_square, wanted[0, 0].numpy(), atol=1e-4, rtol=1e-4)


def test_layers_heads_and_timesteps_average_to_the_whole(scorer: Scorer, picture: np.ndarray) -> None:
    explained = scorer.with_config(steps=3).explain(picture, TEXT, map="logits", layers="up")
    whole = explained.map_of("dog")
    np.testing.assert_allclose(
        np.mean([explained.map_of("dog", layer=layer) for layer in explained.layer_maps], axis=0),
        whole,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        np.mean([explained.map_of("dog", timestep=t) for t in explained.timesteps], axis=0), whole, atol=1e-5
    )
    layer = next(iter(explained.layer_maps))
    heads = [
        explained.map_of("dog", layer=layer, head=head) for head in range(len(explained.layer_maps[layer]))
    ]
    np.testing.assert_allclose(np.mean(heads, axis=0), explained.map_of("dog", layer=layer), atol=1e-5)
    assert np.ptp([head.mean() for head in heads]) > 1e-6


def test_one_site_by_name_and_several(scorer: Scorer, picture: np.ndarray) -> None:
    assert list(scorer.explain(picture, TEXT, layers="mid.0").layer_maps) == ["mid.0"]
    both = scorer.explain(picture, TEXT, layers=["up.1.0", "down.0.0"], map="probs")
    assert list(both.layer_maps) == ["down.0.0", "up.1.0"]


def test_ways_to_normalise(scorer: Scorer, picture: np.ndarray) -> None:
    explained = scorer.explain(picture, TEXT, layers="all")
    raw, unit = explained.map_of("blue"), explained.map_of("blue", normalise="unit")
    np.testing.assert_allclose(unit, (raw - raw.min()) / np.ptp(raw), atol=1e-5)
    own = [i for i, token in enumerate(explained.tokens) if token.kind == "own"]
    above = raw - explained.maps[own].mean(axis=0)
    contrast = explained.map_of("blue", normalise="contrast")
    np.testing.assert_allclose(contrast, (above - above.min()) / np.ptp(above), atol=1e-4)
    assert explained.peak("blue") == np.unravel_index(raw.argmax(), raw.shape)
    assert explained.normalised.min(axis=(1, 2)) == pytest.approx(0)
    assert explained.normalised.max(axis=(1, 2)) == pytest.approx(1)
    with pytest.raises(ConfigError, match="normalise is 'max'"):
        explained.map_of("blue", normalise="max")  # type: ignore[arg-type]


def test_a_cropped_image_is_seen_in_part(scorer: Scorer, picture: np.ndarray) -> None:
    """24 × 40 pixels cropped to a square: the middle 24 columns are seen."""
    squashed = scorer.explain(picture, TEXT)
    assert squashed.view == (0, 0, 40, 24)
    assert np.isfinite(squashed.maps).all()
    cropped = scorer.with_config(resize="crop").explain(picture, TEXT)
    left, top, right, bottom = cropped.view
    assert (top, bottom) == (0, 24)
    assert (left, right) == pytest.approx((8, 32), abs=0.5)
    assert cropped.seen() == (slice(0, 24), slice(8, 32))
    assert np.isfinite(cropped.maps[:, :, 8:32]).all()
    assert np.isnan(cropped.maps[:, :, :8]).all() and np.isnan(cropped.maps[:, :, 32:]).all()
    assert 8 <= cropped.peak("dog")[1] < 32
    # what is seen is that part of the image by itself, to the rounding of the sizes on the way
    alone = scorer.explain(np.ascontiguousarray(picture[:, 8:32]), TEXT)
    np.testing.assert_allclose(cropped.maps[:, :, 8:32], alone.maps, atol=0.05)


def test_a_map_in_part_is_of_use(scorer: Scorer, picture: np.ndarray) -> None:
    """Places and means are those of the part that was seen, whatever the values are."""
    cropped = scorer.with_config(resize="crop").explain(picture, TEXT, map="logits")
    for how in ({}, {"normalise": "unit"}, {"normalise": "contrast"}):
        found = cropped.map_of("dog", **how)  # type: ignore[arg-type]
        plain = cropped.map_of("dog", fill=np.nan, **how)  # type: ignore[arg-type]
        seen = plain[:, 8:32]
        assert np.isfinite(seen).all() and np.isnan(plain[:, :8]).all() and np.isnan(plain[:, 32:]).all()
        row, column = np.unravel_index(np.argmax(found), found.shape)
        assert (row, column - 8) == np.unravel_index(seen.argmax(), seen.shape)
        assert (row, column) == cropped.peak("dog", **how)  # type: ignore[arg-type]
        assert np.mean(found) == pytest.approx(seen.mean(), rel=1e-5)
        assert (found.min(), found.max()) == (seen.min(), seen.max())
        filled = cropped.map_of("dog", fill=0, **how)  # type: ignore[arg-type]
        assert not isinstance(filled, np.ma.MaskedArray) and filled.dtype == np.float32
        assert not filled[:, :8].any() and not filled[:, 32:].any()
        np.testing.assert_array_equal(filled[:, 8:32], seen)
    whole = scorer.explain(picture, TEXT).map_of("dog")
    assert not isinstance(whole, np.ma.MaskedArray)


def test_by_way_of_a_smaller_size(scorer: Scorer, picture: np.ndarray) -> None:
    tall = np.ascontiguousarray(picture.transpose(1, 0, 2))
    assert scorer.with_config(via=16).explain(tall, TEXT).view == (0, 0, 24, 40)
    view = scorer.with_config(via=16, resize="crop").explain(tall, TEXT).view
    assert (view[0], view[2]) == (0, 24)
    assert (view[1], view[3]) == pytest.approx((8, 32), abs=1)


def test_a_large_image_is_shown_smaller(scorer: Scorer) -> None:
    large = np.zeros((300, 2048, 3), np.uint8)
    large[:, 1024:] = 255
    explained = scorer.with_config(resize="crop").explain(large, TEXT)
    assert explained.image.shape == (150, 1024, 3)
    assert explained.image[75, 200].tolist() == [0, 0, 0] and explained.image[75, 900].tolist() == [255] * 3
    left, top, right, bottom = explained.view
    assert (top, bottom) == pytest.approx((0, 150))
    assert (left, right) == pytest.approx((437, 587), abs=1.5)
    assert explained.maps.shape[1:] == (150, 1024)
