"""Words and the tokens that spell them."""

from __future__ import annotations

import numpy as np
import pytest

from discffusion import ConfigError, Scorer
from discffusion.explanation.words import Token, find, tokens_of, words_of
from discffusion.observation import Segment, Tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a red circle", ["a", "red", "circle"]),
        ("  two\n spaces\t", ["two", "spaces"]),
        ("red, red: RED!", ["red", ",", "red", ":", "RED", "!"]),
        ("the dog's well-known (old) hat...", ["the", "dog's", "well-known", "(", "old", ")", "hat", "..."]),
        ("café Zürich 東京 🙂", ["café", "Zürich", "東京", "🙂"]),
        ("cafe\u0301 au lait", ["cafe\u0301", "au", "lait"]),
        ("«quoted»", ["«", "quoted", "»"]),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    found = words_of(text)
    assert [word.text for word in found] == words
    assert all(text[word.start : word.stop] == word.text for word in found)


@pytest.mark.parametrize(
    "text", ["a red circle, a red square!", "café Zürich 東京 🙂", "the dog's well-known (old) hat", "x  y"]
)
def test_every_token_belongs_to_one_word(scorer: Scorer, text: str) -> None:
    seen = scorer.observe(np.zeros((8, 8, 3), np.uint8), text, 0, layers="mid.0", prediction=False)
    tokens = tokens_of(text, seen.tokens)
    words = words_of(text, tokens)
    assert [token.kind for token in tokens[:1]] == ["bos"]
    assert [token.kind for token in tokens[-2:]] == ["eos", "padding"]
    assert sum(token.count for token in tokens) == len(seen.tokens.ids)
    own = [i for i, token in enumerate(tokens) if token.kind == "own"]
    assert sorted(i for word in words for i in word.tokens) == own
    for word in words:
        assert word.tokens
        assert all(word.start <= tokens[i].start and tokens[i].stop <= word.stop for i in word.tokens)


def test_a_word_that_is_there_twice(scorer: Scorer, picture: np.ndarray) -> None:
    explained = scorer.explain(picture, "a red circle left of a red square")
    red = [word for word in explained.words if word.text == "red"]
    assert len(red) == 2
    assert not set(red[0].tokens) & set(red[1].tokens)
    first, second = explained.map_of("red", 0), explained.map_of("red", 1)
    assert np.abs(first - second).max() > 0
    np.testing.assert_array_equal(explained.map_of(red[1]), second)
    np.testing.assert_array_equal(explained.map_of(1), first)
    np.testing.assert_allclose(
        explained.map_of("Red square"),
        np.mean(explained.maps[list(red[1].tokens) + list(explained.words[-1].tokens)], axis=0),
        atol=1e-6,
    )
    assert explained.contribution("red circle") == pytest.approx(explained.per_word[1:3].sum())
    with pytest.raises(ConfigError, match=r"has 'red' 2 times; say which: nth=0 to 1"):
        explained.map_of("red")
    with pytest.raises(ConfigError, match="nth is 2"):
        explained.map_of("red", 2)


def test_added_tokens_by_name(scorer: Scorer, picture: np.ndarray) -> None:
    explained = scorer.explain(picture, "a dog")
    np.testing.assert_array_equal(explained.map_of("<bos>"), explained.maps[0])
    np.testing.assert_array_equal(explained.map_of("<padding>"), explained.maps[-1])
    assert explained.contribution("<eos>") == explained.per_token[-2]


@pytest.mark.parametrize(("old", "new"), [("<begin>", "<bos>"), ("<end>", "<eos>")])
def test_added_tokens_by_their_names_of_before(
    scorer: Scorer, picture: np.ndarray, old: str, new: str
) -> None:
    explained = scorer.explain(picture, "a dog")
    with pytest.warns(DeprecationWarning, match=new):
        assert explained.contribution(old) == explained.contribution(new)


def test_a_text_that_is_cut(scorer: Scorer, picture: np.ndarray) -> None:
    text = " ".join(["red"] * 90) + " end"
    explained = scorer.with_config(truncate="silent").explain(picture, text)
    assert len(explained.words) == 91
    assert [token.kind for token in explained.tokens][-1] == "eos"  # no room for padding
    assert not explained.words[-1].tokens
    with pytest.raises(ConfigError, match="'end' is beyond the model's context length"):
        explained.map_of("end")
    assert explained.per_word[-1] == 0


def test_a_text_without_words(scorer: Scorer, picture: np.ndarray) -> None:
    explained = scorer.explain(picture, "")
    assert explained.words == ()
    assert [token.kind for token in explained.tokens] == ["bos", "eos", "padding"]
    assert explained.plot() is not None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("cat", "no 'cat'; its words are 'a', 'dog'"),
        ("", "no ''"),
        (2, "word 2 was asked for; the text has 2"),
        (1.5, "text or as its index, not float"),
        (True, "not bool"),
    ],
)
def test_words_that_are_not_there(word: object, message: str) -> None:
    tokens = (
        Token("<bos>", "bos"),
        Token("a", "own", 0, 1),
        Token("dog", "own", 2, 5),
        Token("<eos>", "eos"),
    )
    with pytest.raises(ConfigError, match=message):
        find(word, None, words_of("a dog", tokens), tokens)


def test_tokens_without_padding() -> None:
    ids = np.arange(4, dtype=np.int64)
    own = range(1, 3)
    segments = (Segment("clip", range(4), own),)
    tokens = Tokens(ids, ("<", "a", "b", ">"), ((0, 0), (0, 1), (2, 3), (0, 0)), own, 4, False, segments)
    assert [str(token) for token in tokens_of("a b", tokens)] == ["<bos>", "a", "b", "<eos>"]
