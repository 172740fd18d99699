"""Scores of images and texts: of one pair, of several, of all combinations, and what they are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from discffusion._arguments import checked_noise, checked_texts
from discffusion._progress import Progress, reporting
from discffusion.errors import ConfigError
from discffusion.images import ImageLike, is_single, prepare_many
from discffusion.observation import HeadScores
from discffusion.scorer.diffusion import DiffusionModel

if TYPE_CHECKING:
    from discffusion import _core as compiled

__all__ = ["PairScorer"]


class PairScorer(DiffusionModel):
    """Scores pairs of images and texts, each of which is encoded once."""

    @overload
    def score(  # type: ignore[overload-overlap]  # a string is an iterable of strings, but it is one text
        self, image: ImageLike, text: str, *, noise: Any = None, progress: Progress = None
    ) -> float: ...
    @overload
    def score(
        self, image: Iterable[Any], text: Iterable[str], *, noise: Any = None, progress: Progress = None
    ) -> NDArray[np.float64]: ...
    def score(
        self, image: Any, text: Any, *, noise: Any = None, progress: Progress = None
    ) -> float | NDArray[np.float64]:
        """The score of an image and a text, or of pairs of them.

        Args:
            image: one image or several; see :mod:`discffusion.images`.
            text: one text, or as many texts as images.
            noise: float32 ``[steps, C, h, w]`` in place of the seeded noise.
            progress: True, False, or a function of ``(done, total)``; None shows a bar if the request is long.

        Returns:
            A float, or float64 ``[n]``.

        Raises:
            ImageError: an image cannot be read.
            ConfigError: the numbers of images and texts differ, or a text is not a string.
        """
        texts = checked_texts(text)
        one_image, one_text = is_single(image), isinstance(text, str)
        if one_image != one_text:
            given = "one image and several texts" if one_image else "several images and one text"
            raise ConfigError(
                f"score was given {given}; for all combinations use matrix, for the best ones rank"
            )
        images = [image] if one_image else list(image)
        if len(images) != len(texts):
            raise ConfigError(
                f"score was given {len(images)} images and {len(texts)} texts; pairs need as many of each "
                "(for all combinations use matrix)"
            )
        scores = self._scores(images, texts, [(i, i) for i in range(len(images))], noise, progress)
        return float(scores[0]) if one_image else scores

    def matrix(
        self, images: Any, texts: str | Iterable[str], *, noise: Any = None, progress: Progress = None
    ) -> NDArray[np.float64]:
        """The score of every image with every text, float64 ``[n_images, n_texts]``. See :meth:`score`."""
        images = [images] if is_single(images) else list(images)
        texts = checked_texts(texts)
        pairs = [(i, j) for i in range(len(images)) for j in range(len(texts))]
        return self._scores(images, texts, pairs, noise, progress).reshape(len(images), len(texts))

    def score_pairs(
        self,
        images: Any,
        texts: Iterable[str],
        pairs: Iterable[tuple[int, int]],
        *,
        per_step: bool = False,
        noise: Any = None,
        progress: Progress = None,
    ) -> NDArray[np.float64]:
        """The scores of some combinations of images and texts, each of which is encoded once.

        Args:
            pairs: indices ``(image, text)``; the same pair may come twice.
            per_step: whether the score at every timestep is returned, not their mean.

        Returns:
            float64 ``[len(pairs)]``, or ``[len(pairs), steps]`` with `per_step`.
        """
        return self._scores(*_checked(images, texts, pairs), noise, progress, per_step)

    def head_scores(
        self,
        images: Any,
        texts: str | Iterable[str],
        pairs: Iterable[tuple[int, int]],
        *,
        noise: Any = None,
        progress: Progress = None,
    ) -> HeadScores:
        """What the scores of some pairs are made of: the pooled map of every head at every timestep.

        One pass gives the numbers of all heads, layers and timesteps, from which any weighted score is computed without
        the network; see :class:`HeadScores`. The option ``heads`` does not matter, ``method="combined"`` gives both
        terms, and ``prior="null"`` also what every text has without an image.

        Args:
            pairs: indices ``(image, text)``, as of :meth:`score_pairs`.

        Raises:
            ConfigError, ImageError: as of :meth:`score_pairs`; ConfigError if there are no pairs.
        """
        images, given_texts, wanted = _checked(images, texts, pairs)
        prepared, distinct, rows = self._distinct(images, given_texts, wanted)
        if not len(rows):
            raise ConfigError("head_scores was given no pairs")
        given = checked_noise(noise, ("steps", "C", "h", "w"))
        with reporting(progress) as report:
            numbers, prior = self._model.head_scores(prepared, distinct, rows, self._config, given, report)
        timesteps = tuple(self._model.timesteps(self._config))
        of_texts = None
        if prior is not None:
            place = {text: position for position, text in enumerate(distinct)}
            of_texts = HeadScores(*prior, timesteps).select(
                np.array([place[text] for text in given_texts], np.intp)
            )
        return HeadScores(*numbers, timesteps, of_texts)

    def _prepare(
        self, images: list[Any], texts: list[str], noise: NDArray[np.float32] | None
    ) -> compiled.Prepared:
        """Prepared images and distinct texts, encoded, to be scored in parts."""
        self._notice(images, texts)
        return self._model.prepare(images, texts, self._config, noise)

    def _scores(
        self,
        images: list[Any],
        texts: list[str],
        pairs: list[tuple[int, int]],
        noise: Any,
        progress: Progress,
        per_step: bool = False,
    ) -> NDArray[np.float64]:
        """Scores of pairs of indices, float64 ``[len(pairs)]``. What is given twice is encoded once."""
        model = self._model
        given_noise = checked_noise(noise, ("steps", "C", "h", "w"))
        prepared, distinct, rows = self._distinct(images, texts, pairs)
        if not pairs:
            return np.zeros((0, len(model.timesteps(self._config))) if per_step else 0)
        with reporting(progress) as report:
            steps = model.score_pairs(prepared, distinct, rows, self._config, given_noise, report)
        scores: NDArray[np.float64] = steps if per_step else steps.mean(axis=1)
        return scores

    def _distinct(
        self, images: list[Any], texts: list[str], pairs: list[tuple[int, int]]
    ) -> tuple[list[Any], list[str], NDArray[np.int64]]:
        """Prepared images and texts, each once, and the pairs as their indices, int64 ``[n, 2]``."""
        prepared, image_index = prepare_many(images)
        self._notice(prepared, texts)
        distinct = list(dict.fromkeys(texts))
        place = {text: position for position, text in enumerate(distinct)}
        rows = [(image_index[i], place[texts[j]]) for i, j in pairs]
        return prepared, distinct, np.array(rows, dtype=np.int64).reshape(-1, 2)


def _checked(
    images: Any, texts: Iterable[str], pairs: Iterable[tuple[int, int]]
) -> tuple[list[Any], list[str], list[tuple[int, int]]]:
    """Images, texts and pairs of both as users give them.

    Raises:
        ConfigError: a text is not a string, or a pair names no image or no text.
    """
    images = [images] if is_single(images) else list(images)
    checked = checked_texts(texts)
    wanted = [(int(i), int(j)) for i, j in pairs]
    for i, j in wanted:
        if not (0 <= i < len(images) and 0 <= j < len(checked)):
            raise ConfigError(f"pair ({i}, {j}) names none of {len(images)} images and {len(checked)} texts")
    return images, checked, wanted
