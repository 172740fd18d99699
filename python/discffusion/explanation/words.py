"""The words of a text and the model's tokens that spell them, by character offsets."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from discffusion.errors import ConfigError
from discffusion.observation import Segment, Tokens

__all__ = ["Token", "Word", "find", "tokens_of", "words_of"]

_ADDED = ("bos", "eos", "padding")
#: names of the release before
_RENAMED = {"<begin>": "<bos>", "<end>": "<eos>"}


@dataclass(frozen=True)
class Token:
    """A token that an explanation tells apart.

    Attributes:
        text: the characters of the prompt it stands for, or ``"<bos>"``, ``"<eos>"`` or ``"<padding>"``.
        kind: ``"own"`` for the prompt's own tokens; the others are added to every text.
        start, stop: where it stands in the prompt, in characters; 0 and 0 for an added one.
        count: how many of the model's tokens it is: all padding of an encoder counts as one entry.
        encoder: the kind of text encoder that reads it, ``"clip"`` or ``"t5"``.
    """

    text: str
    kind: Literal["bos", "own", "eos", "padding"]
    start: int = 0
    stop: int = 0
    count: int = 1
    encoder: str = "clip"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Word:
    """A word of the prompt, or the marks of punctuation before or behind one.

    Attributes:
        text: as it is written.
        start, stop: where it stands in the prompt, in characters.
        tokens: indices of its tokens in ``Explanation.tokens``; none if the model did not read as far.
    """

    text: str
    start: int
    stop: int
    tokens: tuple[int, ...]

    def __str__(self) -> str:
        return self.text


def tokens_of(text: str, tokens: Tokens) -> tuple[Token, ...]:
    """For each kind of text encoder BOS (T5 has none), the text's own tokens, EOS, and the padding as one."""
    return tuple(token for segment in tokens.segments for token in _of_segment(text, tokens, segment))


def _of_segment(text: str, tokens: Tokens, segment: Segment) -> list[Token]:
    columns, own, encoder = segment.columns, segment.content, segment.encoder
    entries = []
    if own is not None:
        entries = [Token("<bos>", "bos", encoder=encoder)] * (own.start - columns.start)
        offsets = [tokens.offsets[i] for i in own]
        entries += [Token(text[start:stop], "own", start, stop, encoder=encoder) for start, stop in offsets]
        entries.append(Token("<eos>", "eos", encoder=encoder))
    padding = len(columns) - len(entries)
    return [*entries, Token("<padding>", "padding", count=padding, encoder=encoder)] if padding else entries


def words_of(text: str, tokens: Sequence[Token] = ()) -> tuple[Word, ...]:
    """The words in order, the same word twice if it stands there twice; a token belongs to the word it begins in."""
    words = []
    for start, stop in _spans(text):
        of_word = (i for i, token in enumerate(tokens) if token.kind == "own" and start <= token.start < stop)
        words.append(Word(text[start:stop], start, stop, tuple(of_word)))
    return tuple(words)


def find(
    word: Any, nth: int | None, words: Sequence[Word], tokens: Sequence[Token]
) -> tuple[str, tuple[int, ...]]:
    """A word, or several in a row, as its text and the indices of its tokens.

    Args:
        word: text as it stands in the prompt, an index of `words`, a :class:`Word`, or ``"<bos>"``, ``"<eos>"`` or
            ``"<padding>"`` of all text encoders.
        nth: which one, from 0, where the prompt has it more than once.

    Raises:
        ConfigError: it is not there, is there more than once and `nth` is None, or was cut off.
    """
    if isinstance(word, Word):
        word = words.index(word) if word in words else word.text
    if isinstance(word, int) and not isinstance(word, bool):
        if not -len(words) <= word < len(words):
            raise ConfigError(f"word {word} was asked for; the text has {len(words)}")
        runs = [[words[word]]]
    elif isinstance(word, str):
        word = _of_now(word)
        added = [i for i, token in enumerate(tokens) if token.kind in _ADDED and token.text == word]
        if added:
            return word, tuple(added)
        runs = _runs(word, words)
        if not runs:
            there = ", ".join(repr(each.text) for each in words)
            raise ConfigError(f"the text has no {word!r}; its words are {there or 'none'}")
        if len(runs) > 1 and nth is None:
            raise ConfigError(f"the text has {word!r} {len(runs)} times; say which: nth=0 to {len(runs) - 1}")
    else:
        raise ConfigError(f"a word is given as text or as its index, not {type(word).__name__}")
    place = 0 if nth is None else nth
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(runs):
        raise ConfigError(f"nth is {nth!r}; the text has {word!r} {len(runs)} time(s), counted from 0")
    run = runs[place]
    indices = tuple(i for each in run for i in each.tokens)
    name = " ".join(each.text for each in run)
    if not indices:
        raise ConfigError(f"{name!r} is beyond the model's context length: the text was truncated")
    return name, indices


def _of_now(word: str) -> str:
    """`word`, or the name that it has now."""
    if word not in _RENAMED:
        return word
    warnings.warn(f"{word!r} is now {_RENAMED[word]!r}", DeprecationWarning, stacklevel=5)
    return _RENAMED[word]


def _runs(text: str, words: Sequence[Word]) -> list[list[Word]]:
    """Where the words of `text` stand in a row; upper and lower case are the same, as they are to the model."""
    wanted = [text[start:stop].lower() for start, stop in _spans(text)]
    size = len(wanted)
    places = range(len(words) - size + 1) if size else range(0)
    return [
        list(words[i : i + size])
        for i in places
        if [each.text.lower() for each in words[i : i + size]] == wanted
    ]


def _spans(text: str) -> list[tuple[int, int]]:
    """Runs of characters that are no space, with punctuation at their ends apart."""
    spans: list[tuple[int, int]] = []
    stop = 0
    while stop < len(text):
        start = stop
        if text[start].isspace():
            stop += 1
            continue
        while stop < len(text) and not text[stop].isspace():
            stop += 1
        left, right = start, stop
        while left < right and _is_mark(text[left]):
            left += 1
        while right > left and _is_mark(text[right - 1]):
            right -= 1
        edges = [(start, left), (left, right), (right, stop)]
        spans += [(a, b) for a, b in edges if a < b]
    return spans


def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "PS"
