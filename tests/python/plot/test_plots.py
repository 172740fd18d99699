"""Pictures of what is trained."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from discffusion import Deltas, History, Scorer


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    from matplotlib import pyplot

    pyplot.close("all")


def test_losses_and_validations() -> None:
    rows = [{"step": step, "loss": 1 / step} for step in range(1, 31)]
    history = History([*rows, {"step": 30, "epoch": 1, "accuracy": 0.75, "comparisons": 8, "ties": 0}])
    axes = history.plot()
    raw, mean = axes.get_lines()
    np.testing.assert_allclose(raw.get_ydata(), [row["loss"] for row in rows])
    assert mean.get_ydata()[9] == pytest.approx((1 / 9 + 1 / 10) / 2)
    (beside,) = (other for other in axes.figure.axes if other is not axes)
    assert beside.get_lines()[0].get_ydata().tolist() == [75]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["loss, smoothed", "validation"]
    only = History(rows).plot(axes)
    assert only is axes


def test_an_empty_history_is_an_empty_plot() -> None:
    assert History().plot().get_lines() == []


def test_deltas(scorer: Scorer) -> None:
    path = "mid_block.attentions.0.transformer_blocks.0.attn2"
    shape = scorer_shape(scorer)
    delta = np.zeros(shape, np.float32)
    delta[0] = 1
    deltas = Deltas.from_arrays({f"{path}.to_k.delta": delta, f"{path}.to_v.delta": delta * 2}, scorer)
    figure = deltas.plot(4)
    counted, near = figure.get_axes()
    (stairs,) = counted.patches
    np.testing.assert_array_equal(stairs.get_data().values, deltas.histogram(4)[0])
    (bar,) = near.patches
    assert bar.get_width() == pytest.approx(100 * (1 - 1 / shape[0]))
    assert [label.get_text() for label in near.get_yticklabels()] == ["mid.0"]
    assert figure._repr_png_()[:4] == b"\x89PNG"


def scorer_shape(scorer: Scorer) -> tuple[int, int]:
    site = next(site for site in scorer.info()["layers"] if site["name"] == "mid.0")
    vectors = scorer._model.encode_texts(["a"], scorer.config)
    return int(site["channels"]), vectors.shape[-1]
