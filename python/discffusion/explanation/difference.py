"""Two explanations side by side."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import ConfigError, InstallationError
from discffusion.explanation.difference_plot import differing
from discffusion.explanation.grid import filled, on_image
from discffusion.plot.figure import png

if TYPE_CHECKING:
    from discffusion.explanation.explanation import Explanation

__all__ = ["Difference", "WordPair", "difference"]


@dataclass(frozen=True)
class WordPair:
    """A word of one text beside that of the other which stands in its place.

    Attributes:
        a, b: the words; None where the text has none there. ``"<bos>"`` and the like are there too.
        value_a, value_b: what they add to their scores; 0 for None.
    """

    a: str | None
    b: str | None
    value_a: float
    value_b: float

    @property
    def difference(self) -> float:
        return self.value_a - self.value_b

    @property
    def label(self) -> str:
        return str(self.a) if self.a == self.b else f"{self.a or '∅'} | {self.b or '∅'}"


@dataclass(frozen=True, eq=False, repr=False)
class Difference:
    """How two explanations of the same image, or of the same text, differ; numbers are a's minus b's.

    Attributes:
        a, b: the explanations.
        words: word by word; the differences of all, with those of the denoising term and of the prior, add up to that
            of the scores.
        place: where on the image a's score gets more than b's, float32 ``[H, W]``, by place of the finest layer; None
            for two images, or without attention in the score. What the model did not see of the image is masked.
    """

    a: Explanation
    b: Explanation
    words: tuple[WordPair, ...]
    place: NDArray[np.float32] | None

    @property
    def score(self) -> float:
        """The difference of the scores."""
        return self.a.score - self.b.score

    @property
    def denoising(self) -> float:
        """The difference of the denoising terms."""
        return self.a.denoising - self.b.denoising

    @property
    def prior(self) -> float:
        """The difference of the priors' terms."""
        return self.a.prior - self.b.prior

    @cached_property
    def per_layer(self) -> dict[str, float]:
        """By layer."""
        return {name: value - self.b.per_layer[name] for name, value in self.a.per_layer.items()}

    @cached_property
    def per_timestep(self) -> NDArray[np.float64]:
        """By timestep, float64 ``[steps]``."""
        return self.a.per_timestep - self.b.per_timestep

    def plot(self) -> Any:
        """A matplotlib Figure: what words add, and where.

        Raises:
            InstallationError: matplotlib is not installed.
        """
        return differing(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the place."""
        return {
            "a": {"text": self.a.text, "score": self.a.score},
            "b": {"text": self.b.text, "score": self.b.score},
            "score": self.score,
            "denoising": self.denoising,
            "prior": self.prior,
            "words": [
                {"a": row.a, "b": row.b, "value_a": row.value_a, "value_b": row.value_b} for row in self.words
            ],
            "per_layer": self.per_layer,
            "per_timestep": self.per_timestep.tolist(),
        }

    def __repr__(self) -> str:
        return f"Difference({self.a.text!r} − {self.b.text!r}: {self.score:+.6g})"

    def _repr_png_(self) -> bytes | None:
        try:
            return png(self.plot())
        except InstallationError:
            return None

    def _repr_html_(self) -> str | None:
        """A table, where there is no plot to show."""
        if self._repr_png_() is not None:
            return None
        rows = "".join(
            f"<tr><td>{escape(row.label)}</td><td>{row.difference:+.4g}</td></tr>" for row in self.words
        )
        return f"<p>{escape(repr(self))}</p><table>{rows}</table>"


def difference(a: Explanation, b: Explanation) -> Difference:
    """See :meth:`Explanation.compare`."""
    same_image = a.image.shape == b.image.shape and bool(np.array_equal(a.image, b.image))
    if not same_image and a.text != b.text:
        raise ConfigError("compare needs two texts of one image, or two images with one text")
    how = [{name: of.settings.get(name) for name in ("fingerprint", "deltas", "config")} for of in (a, b)]
    if how[0] != how[1]:
        raise ConfigError(
            "the explanations come from different models, deltas or configurations; their scores do not compare"
        )
    place = None
    if same_image and a.places is not None and b.places is not None:
        grid = (a.places.sum(axis=0) - b.places.sum(axis=0)).astype(np.float32)
        place = filled(on_image(grid, a.image.shape[:2], a.view), None)
    return Difference(a, b, _paired(a, b), place)


def _paired(a: Explanation, b: Explanation) -> tuple[WordPair, ...]:
    """Words in the same place beside one another, then what belongs to no word."""
    first, second = (
        [(word.text, float(value)) for word, value in zip(of.words, of.per_word, strict=True) if word.tokens]
        for of in (a, b)
    )
    names = [[name.lower() for name, _ in of] for of in (first, second)]
    word_pairs = []
    for _, i, i_end, j, j_end in SequenceMatcher(None, names[0], names[1], autojunk=False).get_opcodes():
        for step in range(max(i_end - i, j_end - j)):
            left = first[i + step] if i + step < i_end else (None, 0.0)
            right = second[j + step] if j + step < j_end else (None, 0.0)
            word_pairs.append(WordPair(left[0], right[0], left[1], right[1]))
    for kind in ("bos", "eos", "padding"):
        values = [
            sum(float(v) for t, v in zip(of.tokens, of.per_token, strict=True) if t.kind == kind)
            for of in (a, b)
        ]
        if any(token.kind == kind for token in (*a.tokens, *b.tokens)):
            word_pairs.append(WordPair(f"<{kind}>", f"<{kind}>", *values))
    return tuple(word_pairs)
