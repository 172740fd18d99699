"""A scorer that leaves candidates out of later timesteps once they have fallen behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from discffusion._arguments import checked_noise, checked_texts, whole_number
from discffusion._progress import Progress, reporting
from discffusion.errors import ConfigError
from discffusion.images import is_single, prepare_many
from discffusion.stages import check_stages, eliminate

if TYPE_CHECKING:
    from discffusion.scorer import Scorer

__all__ = ["Staged"]


class Staged:
    """Scores of a scorer, by staged elimination (see :mod:`discffusion.stages`). Made by :meth:`Scorer.staged`.

    There is no ``score_pairs``: what is left out depends on what else is asked for.

    Args:
        scorer: whose scores; each stage adds timesteps of its configuration.
        stages: numbers of timesteps after each stage, rising, as ``(4, 12, 50)``; the last is all of the scorer's.
        keep: share of candidates that a stage but the last keeps, or one share for each of them; None keeps all
            that may yet turn out to be the best.
        least: so many candidates come through to the end at least, if there are as many.
        verify: so many of the first matrices are scored at all timesteps too, to see whether the winners agree.

    Attributes:
        evaluations: pairs times timesteps that were computed since it was made, not counting verification.
        avoided: those that were not.
        verified: images and texts whose winner was compared with that of all timesteps.
        agreed: those whose winner was the same.

    Raises:
        ConfigError: the stages are not rising, or do not end with the scorer's number of timesteps.
    """

    def __init__(
        self, scorer: Scorer, stages: Any, keep: Any = None, least: int = 1, verify: int = 0
    ) -> None:
        self.scorer = scorer
        self._counts, self._shares = check_stages(stages, keep)
        steps = len(scorer._model.timesteps(scorer.config))
        if steps != self._counts[-1]:
            raise ConfigError(
                f"stages ends with {self._counts[-1]}, and the score has {steps} timesteps; the last stage is all of "
                "them"
            )
        self._least, self._to_verify = whole_number("least", least, 1), whole_number("verify", verify, 0)
        self.evaluations = self.avoided = self.verified = self.agreed = 0

    def matrix(self, images: Any, texts: Any) -> NDArray[np.float64]:
        """As :meth:`Scorer.matrix` for pairs that are scored at all timesteps; the others are below, in order."""
        return self.staged(images, texts)[0]

    def staged(
        self, images: Any, texts: Any, *, noise: Any = None, progress: Progress = False
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The matrix, and which of it was scored at all timesteps, both ``[n_images, n_texts]``.

        Images and texts are encoded once for all stages. Arguments as of :meth:`Scorer.matrix`.
        """
        images = [images] if is_single(images) else list(images)
        checked = checked_texts(texts)
        shape = (len(images), len(checked))
        if 0 in shape:
            return np.zeros(shape), np.zeros(shape, dtype=bool)
        prepared_images, image_of = prepare_many(images)
        place = {text: position for position, text in enumerate(dict.fromkeys(checked))}
        given = checked_noise(noise, ("steps", "C", "h", "w"))
        prepared = self.scorer._prepare(prepared_images, list(place), given)
        rows, columns = np.array(image_of), np.array([place[text] for text in checked])
        started, seen = self.evaluations, 0

        def evaluate(pairs: NDArray[np.int64], steps: list[int]) -> NDArray[np.float64]:
            nonlocal seen
            before, seen = self.evaluations - started, seen + len(steps)
            self.evaluations += len(pairs) * len(steps)
            to_come = len(pairs) * (self._counts[-1] - seen)

            def tell(done: int, total: int) -> None:
                if report is not None:
                    report(before + done, before + total + to_come)

            wanted = np.stack([rows[pairs[:, 0]], columns[pairs[:, 1]]], axis=1)
            return prepared.score(wanted, steps, tell)

        with reporting(progress) as report:
            scores, whole = eliminate(shape, evaluate, self._counts, self._shares, self._least)
            self.avoided += shape[0] * shape[1] * self._counts[-1] - (self.evaluations - started)
            if self._to_verify > 0:
                self._to_verify -= 1
                pairs = np.stack([np.repeat(rows, shape[1]), np.tile(columns, shape[0])], axis=1)
                full = prepared.score(pairs, range(self._counts[-1]), report).mean(axis=1).reshape(shape)
                self._compare(scores, full)
        return scores, whole

    def _compare(self, scores: NDArray[np.float64], full: NDArray[np.float64]) -> None:
        for axis in (0, 1):
            if scores.shape[axis] > 1:
                winners = np.expand_dims(scores.argmax(axis), axis)
                best = np.take_along_axis(full, winners, axis) == full.max(axis, keepdims=True)
                self.verified += best.size
                self.agreed += int(best.sum())

    def count_tokens(self, texts: Any) -> list[tuple[int, bool]]:
        """For every text its tokens, and whether the model reads fewer; see :meth:`Scorer.count_tokens`."""
        return self.scorer.count_tokens(texts)

    def notes(self) -> list[str]:
        """What a report of these scores has to say."""
        asked = self.evaluations + self.avoided
        if asked == 0:
            return []
        said = [
            f"staged elimination {self._counts}: {self.evaluations} of {asked} evaluations were computed "
            f"({self.evaluations / asked:.1%}); the score of a pair that was left behind is not its own, it only "
            "stands below the others"
        ]
        if self.verified:
            said.append(f"the winner was that of all timesteps in {self.agreed} of {self.verified} cases")
        return said

    def describe(self) -> dict[str, Any]:
        """What a score depends on; see :meth:`Scorer.describe`."""
        return {
            **self.scorer.describe(),
            "stages": list(self._counts),
            "keep": None if self._shares is None else list(self._shares),
        }
