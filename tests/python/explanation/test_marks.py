"""Stable Diffusion 2.x pads with "!": the mark that is written is one thing, the padding another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from discffusion import Scorer


@pytest.fixture(scope="module")
def padded(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """The tiny model with ``!`` as its padding token."""
    folder = tmp_path_factory.mktemp("padded") / "model"
    shutil.copytree(tiny, folder)
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        file = folder / "tokenizer" / name
        found = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**found, "pad_token": "!"}))
    return Scorer(folder, config="attention", device="cpu", steps=2, resolution=64)


@pytest.mark.parametrize("text", ["stop!", "! !! !!!", "!", "a ! b", "wow!!! really?!"])
def test_a_mark_is_the_written_one(padded: Scorer, picture: np.ndarray, text: str) -> None:
    ids = padded.tokenize(text)
    mark = ids[-1]  # padding
    seen = padded.observe(picture, text, 500)
    own = seen.tokens.content
    written = [i for i in own if ids[i] == mark]
    assert len(written) == text.count("!")
    explained = padded.explain(picture, text, layers="all")
    kinds = [token.kind for token in explained.tokens]
    assert kinds == ["bos", *["own"] * len(own), "eos", "padding"]
    assert explained.tokens[-1].count == len(ids) - len(own) - 2
    for index in written:
        assert explained.tokens[index].text == "!"
        assert text[explained.tokens[index].start] == "!"
    # each written mark has a map and a part of its own, whose sum with the others' and the padding's is the score
    for nth, word in enumerate(word for word in explained.words if set(word.text) == {"!"}):
        assert "!" * len(word.tokens) == word.text
        expected = explained.maps[list(word.tokens)].mean(axis=0)
        np.testing.assert_allclose(explained.map_of(word), expected, atol=1e-6)
        assert not np.allclose(expected, explained.map_of("<padding>"), atol=1e-9), nth
        assert explained.contribution(word) == pytest.approx(explained.per_token[list(word.tokens)].sum())
    assert explained.per_token.sum() + explained.denoising == pytest.approx(explained.score, abs=1e-6)
    if text == "stop!":
        np.testing.assert_allclose(explained.map_of("!"), explained.maps[written[0]], atol=1e-6)


def test_content_alone_counts_the_mark(padded: Scorer, picture: np.ndarray) -> None:
    """Without padding, "!" changes the score by its own column of the map."""
    content = padded.with_config(tokens="content", method="attention")
    explained = content.explain(picture, "stop!")
    assert explained.contribution("<padding>") == 0
    assert explained.contribution("!") != 0
    assert sum(explained.contribution(i) for i in range(2)) == pytest.approx(explained.score, abs=1e-6)
