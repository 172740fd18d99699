"""The scorer: how well an image and a text match, by a text-to-image diffusion model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from discffusion import _layers
from discffusion._arguments import checked_noise, checked_texts, has_content
from discffusion._deprecated import renamed_argument
from discffusion._progress import Progress, reporting
from discffusion._warning import warn
from discffusion.errors import ConfigError
from discffusion.images import ImageLike, is_single, prepare, prepare_many
from discffusion.observation import HeadScores, Observation, Tokens
from discffusion.scorer.diffusion import DiffusionModel

if TYPE_CHECKING:
    from discffusion import _core as compiled
    from discffusion.explanation import Explanation
    from discffusion.staged import Staged

__all__ = ["Scorer"]


class Scorer(DiffusionModel):
    """Scores how well images and texts match. Higher is better; only scores of one model and configuration compare.

    A score depends on the model, the image, the text, the configuration and its seed, never on what else is in the
    request. May be used from several threads at once.

    Args:
        model: a folder in the diffusers layout, a hub id, or None for the bundled pocket model.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``, or a torch device.
        dtype: ``"auto"`` (float16 on CUDA, else float32), ``"float32"``, ``"float16"``, ``"bfloat16"``, or torch's.
            ``"fastest"`` is bfloat16 on a CPU that turns out, when measured, to be a fifth faster with it or more;
            scores then depend on the processor.
        config: a :class:`ScoreConfig`, a preset (``"default"``, ``"paper"``, ``"release"``) or a mapping of fields.
        lazy: whether a weight on the CPU is read from its file when it is first needed; False reads all at once, which
            takes memory for the weights beside those that were reordered for speed, and no file afterwards. A file
            that is written to before it is read is an error, never another number.
        revision, variant, cache_dir, local_files_only, token: see :func:`discffusion.hub.resolve`.
        prediction_type: ``"epsilon"`` or ``"v_prediction"``, where the model predicts something else than its
            ``scheduler_config.json`` says.
        fields: single fields of the configuration, as ``seed=1``.

    Raises:
        CheckpointError: the model is missing, incomplete or of another kind.
        ConfigError: an option is unknown or out of range.
        DeviceError: the device or dtype is not available.
    """

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

    def rank(
        self,
        images: Any,
        text: str | Iterable[str],
        top_k: int | None = None,
        *,
        stages: Sequence[int] | None = None,
        keep: float | Sequence[float] | None = None,
        noise: Any = None,
        progress: Progress = None,
    ) -> list[tuple[int, float]]:
        """Images for a text, or texts for an image, best first: ``[(index, score)]``. Ties keep their order.

        Among texts, those without content (no word but an article) come last, with a warning: a score says how much of
        a text the image shows, and they say nothing.

        Args:
            images: several images with one text, or one image with several texts.
            top_k: how many to return; all if None.
            stages: as ``(4, 8, 12, 16, 24, 32, 40, 50)``: all candidates are scored at 4 timesteps, the best of them
                at 8, and so on; the last at all 50. Only they are returned, at least `top_k`; their scores are the
                same as ever.
            keep: the share of candidates that each stage but the last keeps, or one share for each of them. None keeps
                those that may yet turn out to be the best: whose score so far is not below the best by more than
                three standard errors of the difference.
        """
        if not isinstance(text, str) and not is_single(images):
            raise ConfigError(
                "rank was given several images and several texts; it takes one of either: use matrix"
            )
        if top_k is not None and (
            isinstance(top_k, bool) or not isinstance(top_k, int | np.integer) or top_k < 1
        ):
            raise ConfigError(f"top_k is {top_k!r}; expected a whole number above 0, or None")
        texts = checked_texts(text)
        if stages is None:
            if keep is not None:
                raise ConfigError(f"keep is {keep!r}, but there are no stages; give both or neither")
            scores = self.matrix(images, texts, noise=noise, progress=progress).ravel()
            is_whole = np.ones(scores.shape, dtype=bool)
        else:
            staged = self.staged(stages, keep, least=top_k or 1)
            matrix, whole = staged.staged(images, texts, noise=noise, progress=progress)
            scores, is_whole = matrix.ravel(), whole.ravel()
        is_empty = np.zeros(scores.shape, dtype=bool)
        if not isinstance(text, str):
            is_empty = np.array([not has_content(one) for one in texts])
            if is_empty.any():
                named = ", ".join(repr(texts[index]) for index in np.flatnonzero(is_empty)[:3])
                warn(f"texts without content come last, whatever they score: {named}")
        order = np.lexsort((-scores, is_empty))
        return [(int(index), float(scores[index])) for index in order[is_whole[order]][:top_k]]

    def staged(
        self,
        stages: Sequence[int],
        keep: float | Sequence[float] | None = None,
        *,
        least: int = 1,
        verify: int = 0,
    ) -> Staged:
        """These scores with candidates left out of later timesteps once they have fallen behind, for ``evaluate``.

        Raises:
            ConfigError: the stages are not rising, or do not end with the number of timesteps.
        """
        from discffusion.staged import Staged

        return Staged(self, stages, keep, least, verify)

    @renamed_argument(sites="layers")
    def observe(
        self,
        image: ImageLike,
        text: str,
        timestep: int = 500,
        layers: str | Iterable[str] = "all",
        map: str = "probs",
        *,
        prediction: bool = True,
        noise: Any = None,
    ) -> Observation:
        """One evaluation of the denoising network in full: attention maps, prediction, latents, tokens.

        Args:
            timestep: training timestep, 0 (clean) to 999.
            layers: whose maps are returned: ``"all"``, ``"down"``, ``"mid"``, ``"up"``, ``"last(n)"``,
                ``"last_blocks"``, a layer's name, as ``"up.3.2"``, or several names; none for ``[]``.
            map: ``"probs"``, ``"logits"`` or ``"cosine"``.
            prediction: whether to form the prediction; without it the network stops after the last layer asked for.
            noise: float32 ``[C, h, w]`` in place of the seeded noise.

        Raises:
            ConfigError: several images or texts are given, or a layer, kind of map or timestep is unknown.
        """
        if not is_single(image):
            raise ConfigError("observe takes one image")
        (text,) = checked_texts(text)
        if isinstance(timestep, bool) or not isinstance(timestep, int | np.integer):
            raise ConfigError(f"timestep is {timestep!r}; expected a whole number")
        prepared = prepare(image)
        self._notice([prepared], [text])
        seen = self._model.observe(
            prepared,
            text,
            int(timestep),
            _layers.select(layers, self.layers),
            str(map),
            bool(prediction),
            self._config,
            checked_noise(noise, ("C", "h", "w")),
        )
        return Observation(
            maps=seen["maps"],
            prediction=seen["prediction"],
            latent=seen["latent"],
            clean=seen["clean"],
            noise=seen["noise"],
            tokens=Tokens.from_core(seen["tokens"]),
            timestep=int(timestep),
        )

    @renamed_argument(sites="layers")
    def explain(
        self,
        image: ImageLike,
        text: str,
        *,
        map: str = "probs",
        layers: str | Iterable[str] = "last(1)",
        noise: Any = None,
        progress: Progress = None,
    ) -> Explanation:
        """Where the score of an image and a text comes from: maps of the words, and what adds up to the score.

        The defaults are those that pointed best at what words name, of all that were measured on the pocket model.

        Args:
            map: kind of the maps shown: ``"probs"``, ``"logits"`` or ``"cosine"``. If it is not that of the score, the
                network runs twice.
            layers: whose maps are shown; named as in :meth:`observe`.
            noise: float32 ``[steps, C, h, w]`` in place of the seeded noise.

        Raises:
            ConfigError: several images or texts are given, or a layer or kind of map is unknown.
        """
        from discffusion.explanation import explain

        if is_single(image) and isinstance(text, str):
            image = prepare(image)
            self._notice([image], [text])
        return explain(self, image, text, map, layers, noise, progress)

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
        the network; see :class:`HeadScores`. The options ``heads`` and ``prior`` do not matter, and
        ``method="combined"`` gives both terms.

        Args:
            pairs: indices ``(image, text)``, as of :meth:`score_pairs`.

        Raises:
            ConfigError, ImageError: as of :meth:`score_pairs`; ConfigError if there are no pairs.
        """
        prepared, distinct, rows = self._distinct(*_checked(images, texts, pairs))
        if not len(rows):
            raise ConfigError("head_scores was given no pairs")
        given = checked_noise(noise, ("steps", "C", "h", "w"))
        with reporting(progress) as report:
            layers, denoising = self._model.head_scores(prepared, distinct, rows, self._config, given, report)
        return HeadScores(layers, denoising, tuple(self._model.timesteps(self._config)))

    def head_weights(
        self, image: ImageLike, text: str, *, noise: Any = None
    ) -> dict[str, NDArray[np.float32]]:
        """What each attention head of a layer counts (Eq. 7): float32 ``[steps, heads]`` by layer, mean 1 over heads.

        They are found as ``attribution`` of the configuration says: in closed form (local), by backpropagation of the
        whole score (full), or by an integral over it (integrated).
        """
        texts = checked_texts(text)
        if not is_single(image) or len(texts) != 1:
            raise ConfigError("head_weights takes one image and one text")
        given = checked_noise(noise, ("steps", "C", "h", "w"))
        prepared = prepare(image)
        self._notice([prepared], texts)
        return self._model.head_weights(prepared, texts[0], self._config, given)

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
