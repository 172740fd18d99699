"""Turns, medians, repeats, requests."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import PIL.Image
import pytest

from discffusion import Scorer, bench
from discffusion.bench.clock import Clock, Times, in_turns
from discffusion.bench.flops import Network, Op
from discffusion.bench.growth import line, resolutions
from discffusion.bench.options import Options
from discffusion.bench.peak import Peak, gemm_shapes
from discffusion.bench.runner import Comparison, Repeats
from discffusion.bench.settings import make_settings
from discffusion.bench.workloads import WORKLOADS, Workload, draw
from discffusion.errors import ConfigError


def test_turns_change() -> None:
    order: list[tuple[int, str]] = []
    ready: list[str] = []
    calls = {name: (lambda at, name=name: order.append((at, name))) for name in "abc"}
    times = in_turns(calls, 12, Clock(), before=ready.append, first=5)
    assert [name for _, name in order] == ready
    rounds = [ready[start : start + 3] for start in range(0, 36, 3)]
    assert [at for at, _ in order] == [5 + repeat for repeat in range(12) for _ in "abc"]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert Counter(names[0] for names in rounds) == {"a": 4, "b": 4, "c": 4}
    # each follows each of the others equally often within a round
    after = Counter(pair for names in rounds for pair in zip(names[:-1], names[1:], strict=True))
    assert set(after.values()) == {4} and len(after) == 6
    assert all(len(one.seconds) == 12 for one in times.values())


def test_times() -> None:
    times = Times([3.0, 1.0, 2.0, 10.0])
    assert (times.median, times.minimum) == (2.5, 1.0)
    found = Comparison(
        Workload(1, 1), {"discffusion": Times([2.0, 1.0, 4.0]), "other": Times([8.0, 3.0, 6.0])}, {}
    )
    assert (found.ratio("other"), found.ratio("other", "minimum")) == (3.0, 3.0)


def test_repeats_by_time() -> None:
    assert Repeats(7).of(100.0) == 7
    assert Repeats(seconds=6).of(1.0) == 6
    assert Repeats(seconds=6).of(60.0) == 3
    assert Repeats(seconds=6).of(0.0) == 25


@pytest.mark.parametrize("text", ["", "1", "1x", "x1", "0x1", "1x0", "1x1x1", "-1x1", "1 x 1", "99999x1"])
def test_workloads_that_do_not_read(text: str) -> None:
    with pytest.raises(ConfigError, match="workload"):
        Workload.parse(text)


def test_workloads() -> None:
    assert Workload.parse("16x10") == Workload(16, 10)
    assert Workload(16, 10).pairs == 160 and str(Workload(16, 10)) == "16x10"


def test_draws_are_distinct_and_larger_than_the_model_takes() -> None:
    first, second = draw(Workload(3, 20), 64, 0), draw(Workload(3, 20), 64, 1)
    assert len(set(first.images)) == 3 and len(set(first.texts)) == 20
    assert not set(first.images) & set(second.images)
    assert first == draw(Workload(3, 20), 64, 0)
    assert PIL.Image.open(io.BytesIO(first.images[0])).size == (80, 80)


def test_terms(scorer: Scorer) -> None:
    settings = make_settings(scorer, 4, 64)
    assert settings.noise.shape == (4, 4, 8, 8) and settings.noise.dtype == np.float32
    assert list(settings.timesteps) == scorer.with_config(steps=4, noise_range=None).describe()["timesteps"]
    config = scorer.with_config("default", **settings.config()).config
    assert (config.method, config.map, config.pooling, config.layers) == ("attention", "logits", "lse", "all")
    short = settings.first(1)
    assert short.timesteps == settings.timesteps[:1] and np.array_equal(short.noise, settings.noise[:1])


def test_line() -> None:
    assert line((1, 2, 4, 8), [5.0, 8.0, 14.0, 26.0]) == pytest.approx((2.0, 3.0))


def test_resolutions() -> None:
    assert resolutions(512, 64) == (256, 384, 512)
    assert resolutions(32, 8) == (16, 32, 48, 64)
    assert resolutions(64, 64) == (64, 128)  # half and one and a half are no multiples


def test_fraction_of_the_rate() -> None:
    """Products of 2 · 10 · 10 · 10 operations in 2 s and 1 s; the network's 3000 in 4 s: 750 of 2000 a second."""
    gemms = {(10, 10, 10): Times([2.0, 2.0]), (10, 20, 10): Times([2.0, 2.0])}
    found = Peak(gemms, {"discffusion": Times([4.0, 4.0])}, 3000, 1)
    assert found.gemm_rate() == 2000
    assert found.fraction("discffusion") == pytest.approx(0.375)


def test_products_that_matter() -> None:
    linear = Op("mid_block.a", "linear", 2 * 10 * 100 * 100, (10, 100, 100))
    conv = Op("conv_in", "conv", 2 * 25 * 36 * 8, (25, 36, 8))
    time = Op("time_embedding.a", "time", 2 * 100 * 10, (1, 100, 10))
    product = Op("mid_block.b", "attention", 2 * 1000**3)
    net = Network((linear, linear, conv, time, product), 0)
    assert gemm_shapes(net, 3) == [(30, 100, 100)]  # 400,000 of 414,400


def test_options() -> None:
    against = Options().implementations()
    assert list(against) == list(WORKLOADS) and against[Workload(16, 16)] == ["diffusers-batched"]
    assert list(Options(quick=True).implementations()) == [Workload(1, 1)]
    assert Options(workloads=["3x1"], against=["released-1"]).implementations() == {
        Workload(3, 1): ["released-1"]
    }
    assert Options(against=[]).implementations()[Workload(1, 1)] == []
    assert Options(parts=["memory", "requests"]).all_parts() == ["requests", "memory"]
    assert Options(quick=True).all_parts() == ["requests", "phases", "peak"]


def test_old_names() -> None:
    with pytest.warns(DeprecationWarning, match="stages is called phases"):
        assert Options(parts=["memory", "stages"]).all_parts() == ["phases", "memory"]
    with pytest.warns(DeprecationWarning, match="Report is called BenchReport"):
        assert bench.Report is bench.BenchReport


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("repeats", 0), ("threads", True), ("resolution", 1.5), ("method", "denoising"),
     ("map", "x"), ("clock", "sun"), ("parts", ["x"]), ("workloads", ["x"]), ("against", ["x"])],
)  # fmt: skip
def test_wrong_options(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name.removesuffix("s")):
        Options(**{name: value})
