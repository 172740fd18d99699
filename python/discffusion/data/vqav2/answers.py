"""Answers to questions in a form in which they compare: signs, number words, articles and contractions made alike."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import combinations

__all__ = ["normalise"]

_SIGNS = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = {
    word: str(number)
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
} | {"none": "0"}

# none whose letters alone are a word of their own: we'll, she'd, it's, let's
_NOT = "ai are ca could did does do had has have is might must need ought sha should was were wo would"
_HAVE = "could might must should they we what where who would you"
_WOULD_HAVE = "he it she somebody someone something there they we who you"
_OTHERS = (
    "couldn't've hadn't've mightn't've shouldn't've wouldn't've he'd it'd somebody'd someone'd something'd there'd "
    "they'd where'd who'd you'd how'd it'll somebody'll someone'll something'll they'll what'll who'll why'll you'll "
    "how'll he's how's somebody's someone's that's there's what's when's where's who's why's there're they're what're "
    "why're you're ma'am o'clock y'all y'all'll y'all'd've"
)


def _without_apostrophes(word: str) -> list[str]:
    """The word with some or all of its apostrophes left out."""
    places = [index for index, letter in enumerate(word) if letter == "'"]
    return [
        "".join(letter for index, letter in enumerate(word) if index not in gone)
        for count in range(1, len(places) + 1)
        for gone in combinations(places, count)
    ]


_CONTRACTIONS = {
    short: word
    for word in (
        *(f"{start}n't" for start in _NOT.split()),
        *(f"{start}'ve" for start in _HAVE.split()),
        *(f"{start}'d've" for start in _WOULD_HAVE.split()),
        *_OTHERS.split(),
    )
    for short in _without_apostrophes(word)
}


@lru_cache(maxsize=1 << 16)
def normalise(answer: str) -> str:
    """The form of an answer that VQA accuracy compares.

    A sign of punctuation is dropped if it stands beside a space anywhere in the answer, or if the answer has a number
    such as 1,000; else it becomes a space. A full stop goes unless a digit follows. Letters become small, number words
    to ten become digits, articles go, and contractions get their apostrophes.
    """
    text = " ".join(answer.replace("’", "'").split())
    thousands = re.search(r"\d,\d", text) is not None
    becomes = {
        ord(sign): "" if thousands or f"{sign} " in text or f" {sign}" in text else " " for sign in _SIGNS
    }
    text = re.sub(r"\.(?!\d)", "", text.translate(becomes))
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)
