"""All sides compute the same scores; one that does not is found out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discffusion.bench.clock import Clock
from discffusion.bench.runner import DisagreementError, Repeats, compare
from discffusion.bench.sides import OURS, SIDES, Place, Side, all_sides, chosen
from discffusion.bench.sides.ours import Ours
from discffusion.bench.workloads import Draw, Terms, Workload, draw, make_terms
from discffusion.errors import ConfigError

STEPS, RESOLUTION = 2, 64


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Side]:
    import torch
    from tests.fixtures.make_checkpoint import write_checkpoint

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    place = Place(write_checkpoint(tmp_path_factory.mktemp("bench") / "model", "sd21"))
    yield {OURS: Ours(place), **all_sides(place, SIDES)}
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def own() -> Draw:
    return draw(Workload(2, 3), RESOLUTION)


def terms_of(sides: dict[str, Side], **how: Any) -> Terms:
    ours: Any = sides[OURS]
    return make_terms(ours.scorer, STEPS, RESOLUTION, **how)


def apart(found: np.ndarray, ours: np.ndarray) -> float:
    return float(np.abs(found - ours).max() / np.abs(ours).mean())


@pytest.mark.parametrize("method", ["attention", "combined"])
def test_all_sides_agree(sides: dict[str, Side], own: Draw, method: str) -> None:
    terms = terms_of(sides, method=method)
    found = {}
    for name, side in sides.items():
        side.prepare()
        found[name] = side.matrix(own.images, own.texts, terms)
        assert found[name].shape == (2, 3) and found[name].dtype == np.float64
    assert list(found) == list(SIDES)
    for name, scores in found.items():
        assert apart(scores, found[OURS]) < 1e-5, name
    # The scores do differ from pair to pair, so that agreement means something.
    assert np.ptp(found[OURS], axis=0).min() > 1e-4 and np.ptp(found[OURS], axis=1).min() > 1e-4


@pytest.mark.parametrize("map", ["probs", "cosine"])
def test_other_maps(sides: dict[str, Side], own: Draw, map: str) -> None:
    terms = terms_of(sides, map=map)
    expected = sides[OURS].matrix(own.images, own.texts, terms)
    for name in ("diffusers-batched", "diffusers-loop"):
        sides[name].prepare()
        assert apart(sides[name].matrix(own.images, own.texts, terms), expected) < 1e-5
    for name in ("released-1", "released-16"):
        assert "logits" in str(sides[name].unable(6, terms))


def test_batches_and_formats_change_nothing(sides: dict[str, Side], own: Draw) -> None:
    side: Any = sides["diffusers-batched"]
    terms = terms_of(sides, method="combined")
    expected = sides[OURS].matrix(own.images, own.texts, terms)
    before = side.batch, side.formats
    for batch, layout in ((1, "contiguous"), (5, "channels_last"), (64, "channels_last")):
        side.batch, side.formats = batch, {"unet": layout, "vae": layout}
        side.prepare()
        assert apart(side.matrix(own.images, own.texts, terms), expected) < 1e-5
    side.batch, side.formats = before


def test_tuning_chooses_within_bounds(sides: dict[str, Side]) -> None:
    terms = terms_of(sides)
    for name, largest in (("diffusers-batched", 3), ("diffusers-loop", 1)):
        sides[name].tune(terms, 3, Clock())
        about = sides[name].about
        assert 1 <= about["batch"] <= largest
        assert set(about["formats"].values()) <= {"contiguous", "channels_last"}


def test_released_forms_every_map_and_both_halves(sides: dict[str, Side], own: Draw) -> None:
    """Self-attention's log-sum-exp is taken too, the image encoded at each timestep, and two texts for each pair."""
    side: Any = sides["released-1"]
    modules, seen = side.modules, {"images": 0, "texts": 0, "batch": set()}
    plain = {name: getattr(modules, name) for name in ("encode_images", "encode_texts", "predict")}

    def images(pixels: Any) -> Any:
        seen["images"] += len(pixels)
        return plain["encode_images"](pixels)

    def texts(given: Sequence[str]) -> Any:
        seen["texts"] += len(given)
        return plain["encode_texts"](given)

    def predict(noised: Any, times: Any, vectors: Any) -> Any:
        seen["batch"].add(len(noised))
        return plain["predict"](noised, times, vectors)

    modules.encode_images, modules.encode_texts, modules.predict = images, texts, predict
    try:
        side.prepare()
        side.matrix(own.images, own.texts, terms_of(sides))
    finally:
        for name in plain:
            delattr(modules, name)
    assert seen == {"images": 6 * STEPS, "texts": 12, "batch": {2}}
    processors = modules.unet.attn_processors
    assert len(processors) == 2 * len(modules.sites)
    assert {type(one).__name__ for one in processors.values()} == {"ExplicitProcessor"}


def test_released_is_left_out_where_its_maps_do_not_fit(sides: dict[str, Side]) -> None:
    side: Any = sides["released-16"]
    terms = terms_of(sides)
    assert side.unable(1, terms) == "one pair makes no batch"
    assert side.unable(4, terms) is None
    # 8×8 latents: three maps of 64 × 64 for the heads of 2 · 4 samples, four bytes each
    heads = side.modules.unet.config.attention_head_dim[0]
    assert side.needed(4, terms) == 3 * 2 * 4 * heads * 64 * 64 * 4
    vast = Terms((1,), np.zeros((1, 4, 2048, 2048), np.float32), 16384)
    assert "GB are free" in side.unable(16, vast)


class Liar:
    """Scores of ours, a little changed."""

    about: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, ours: Side, change: float) -> None:
        self.ours, self.change = ours, change

    def prepare(self) -> None: ...

    def tune(self, terms: Terms, rows: int, clock: Clock) -> None: ...

    def unable(self, pairs: int, terms: Terms) -> str | None:
        return None

    def matrix(self, images: Sequence[bytes], texts: Sequence[str], terms: Terms) -> np.ndarray:
        return self.ours.matrix(images, texts, terms) * self.change


def test_a_side_with_other_scores_is_an_error(sides: dict[str, Side]) -> None:
    terms, workload = terms_of(sides), Workload(1, 2)
    for change in (1.001, float("nan")):
        pair = {OURS: sides[OURS], "liar": Liar(sides[OURS], change)}
        with pytest.raises(DisagreementError, match="liar"):
            compare(pair, workload, terms, repeats=Repeats(1), clock=Clock())
    honest = {OURS: sides[OURS], "liar": Liar(sides[OURS], 1.00001)}
    found = compare(honest, workload, terms, repeats=Repeats(2, warm_up=0), clock=Clock())
    assert found.apart["liar"] == pytest.approx(1e-5, rel=0.3)
    assert len(found.times["liar"].seconds) == 2


def test_compare_says_who_is_left_out(sides: dict[str, Side], tmp_path: Path) -> None:
    found = compare(sides, Workload(1, 1), terms_of(sides), repeats=Repeats(1), clock=Clock())
    assert found.left_out == {"released-16": "one pair makes no batch"}
    assert set(found.times) == set(SIDES) - {"released-16"}
    assert all(found.apart[name] < 1e-5 for name in found.times)


def test_names() -> None:
    assert chosen(["released", "diffusers-loop"]) == ["released-1", "released-16", "diffusers-loop"]
    assert chosen(["diffusers", "diffusers-loop"]) == ["diffusers-batched", "diffusers-loop"]
    assert chosen([]) == []
    with pytest.raises(ConfigError, match="'jax'"):
        chosen(["jax"])
