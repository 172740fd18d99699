"""Retrieval against torchmetrics and by hand, with several captions an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.python.evaluation.scored import record
from torchmetrics.functional.retrieval import retrieval_hit_rate

from discffusion import ConfigError
from discffusion.evaluation.metrics import METRICS
from discffusion.evaluation.record import Record


def gallery(scores: np.ndarray, match: np.ndarray) -> list[Record]:
    texts = tuple(f"text {index}" for index in range(scores.shape[1]))
    return [
        record(f"{index:03}", row[None], right[None], images=(f"{index}.jpg",), texts=texts)
        for index, (row, right) in enumerate(zip(scores, match, strict=True))
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 14), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_recall_agrees_with_torchmetrics(images: int, captions: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    match = np.arange(images * captions) // captions == np.arange(images)[:, None]
    match[rng.random(match.shape) < 0.05] = True  # a caption may fit another image too
    scores = rng.integers(0, 6, match.shape) + 1.0 * match
    found = METRICS["retrieval"](gallery(scores, match))
    for side, values, right in (("image_to_text", scores, match), ("text_to_image", scores.T, match.T)):
        for k in (1, 5, 10):
            # scores are whole: half a point off sorts a tie against us, and changes nothing else
            hits = [
                retrieval_hit_rate(torch.tensor(row - 0.5 * is_match), torch.tensor(is_match), top_k=k).item()
                for row, is_match in zip(values, right, strict=True)
                if (~is_match).sum() >= k
            ]
            name = f"{side}@{k}"
            assert (name in found) == bool(hits)
            if hits:
                assert found[name].value == pytest.approx(np.mean(hits))
                assert found[name].n == len(hits)


def test_two_captions_an_image_by_hand() -> None:
    match = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]], bool)
    scores = np.array(
        [
            [9, 1, 5, 0, 2, 0],  # its first caption leads
            [7, 0, 7, 6, 1, 0],  # a tie with another's caption: second
            [8, 3, 4, 5, 2, 6],  # its best is second
        ]
    )
    found = METRICS["retrieval"](gallery(scores, match))
    assert found["image_to_text@1"].value == pytest.approx(1 / 3)
    assert found["image_to_text@1"].ties == 1
    # texts: right, second (3 for another image), right (7 of 5, 7, 4), right (6 of 0, 6, 5), a tie, right
    assert found["text_to_image@1"].value == pytest.approx(4 / 6)
    assert found["text_to_image@1"].ties == 1
    assert set(found) == {"image_to_text@1", "text_to_image@1"}  # four others, two others: no 5 or 10
    # six texts of three images: captions of one image are not independent
    assert (found["text_to_image@1"].n, found["text_to_image@1"].groups) == (6, 3)
    assert (found["text_to_image@1"].method, found["image_to_text@1"].method) == ("t", "exact")


def test_a_text_without_an_image_is_no_query_and_stays_a_distractor() -> None:
    match = np.array([[1, 0, 0], [0, 1, 0]], bool)
    found = METRICS["retrieval"].measure(gallery(np.array([[1, 0, 2], [0, 1, 0]]), match))
    assert found.values["image_to_text@1"].value == 0.5
    assert (found.values["text_to_image@1"].value, found.values["text_to_image@1"].n) == (1, 2)
    assert found.notes == ("1 queries of text_to_image have no match and are left out",)


def test_what_is_no_gallery_is_refused() -> None:
    one = record("a", [[1, 0]], [[1, 0]], texts=("x", "y"))
    with pytest.raises(ConfigError, match="items 'a' and 'b' have different texts"):
        METRICS["retrieval"]([one, record("b", [[1, 0]], [[0, 1]], texts=("x", "z"))])
    with pytest.raises(ConfigError, match="items 'a' and 'b' have different texts"):
        METRICS["retrieval"]([record("a", [[1, 0]], [[1, 0]]), record("b", [[1, 0, 2]], [[1, 0, 0]])])
    with pytest.raises(ConfigError, match="item 'b' has 2 images"):
        METRICS["retrieval"]([one, record("b", np.eye(2), np.eye(2))])
    with pytest.raises(ConfigError, match="no image or text has candidates that match beside others"):
        METRICS["retrieval"]([record("a", [[1, 0]], [[1, 1]])])
