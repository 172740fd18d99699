"""The scorer: how well an image and a text match, by a text-to-image diffusion model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from discffusion import _layers
from discffusion._arguments import checked_noise, checked_texts, has_content
from discffusion._deprecated import renamed_argument
from discffusion._progress import Progress
from discffusion._warning import warn
from discffusion.calibration.observations import MAPS
from discffusion.calibration.weights import OVER
from discffusion.errors import ConfigError
from discffusion.images import ImageLike, is_single, prepare
from discffusion.observation import Observation, Tokens
from discffusion.scorer.pairs import PairScorer

if TYPE_CHECKING:
    from discffusion.calibration import Calibration
    from discffusion.data.item import MatchItem
    from discffusion.explanation import Explanation
    from discffusion.staged import Staged

__all__ = ["Scorer"]


class Scorer(PairScorer):
    """Scores how well images and texts match. Higher is better; only scores of one model and configuration compare.

    A score depends on the model, the image, the text, the configuration and its seed, never on what else is in the
    request. May be used from several threads at once.

    Args:
        model: a folder in the diffusers layout, a hub id, or None for the bundled pocket model.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``, or a torch device.
        dtype: ``"auto"`` (float16 on CUDA, else float32), ``"float32"``, ``"float16"``, ``"bfloat16"``, or torch's.
            ``"fastest"`` is bfloat16 on a CPU that turns out, when measured, to be a fifth faster with it or more;
            scores then depend on the processor.
        config: a :class:`ScoreConfig`, a preset (``"default"``, ``"paper"``, …) or a mapping of fields.
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

    def rank(
        self,
        images: Any,
        text: str | Iterable[str],
        top_k: int | None = None,
        *,
        stages: Sequence[int] | None = None,
        keep: float | Sequence[float] | None = None,
        method: Literal["auto"] | None = None,
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
            method: ``"auto"`` ranks by the calibrated score or by the score before, whichever the calibration measured
                to be the better for what is ranked, texts of an image or images of a text; None by the score of now.

        Raises:
            ConfigError: an argument is out of range, several of both are given, or there is no calibration to go by.
        """
        if not isinstance(text, str) and not is_single(images):
            raise ConfigError(
                "rank was given several images and several texts; it takes one of either: use matrix"
            )
        if top_k is not None and (
            isinstance(top_k, bool) or not isinstance(top_k, int | np.integer) or top_k < 1
        ):
            raise ConfigError(f"top_k is {top_k!r}; expected a whole number above 0, or None")
        if method is not None:
            better = self._better_for("images" if isinstance(text, str) else "texts", method)
            return better.rank(images, text, top_k, stages=stages, keep=keep, noise=noise, progress=progress)
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
        timestep: float = 500,
        layers: str | Iterable[str] = "all",
        map: str = "probs",
        *,
        prediction: bool = True,
        noise: Any = None,
    ) -> Observation:
        """One evaluation of the denoising network in full: attention maps, prediction, latents, tokens.

        Args:
            timestep: training timestep, 0 (clean) to 999; of a flow ``1000 σ``, which need not be whole.
            layers: whose maps are returned: ``"all"``, ``"down"``, ``"mid"``, ``"up"``, ``"block"``, ``"last(n)"``,
                ``"last_blocks"``, a layer's name, as ``"up.3.2"``, or several names; none for ``[]``.
            map: ``"probs"``, ``"logits"``, ``"cosine"`` or ``"text_probs"``.
            prediction: whether to form the prediction; without it the network stops after the last layer asked for.
            noise: float32 ``[C, h, w]`` in place of the seeded noise.

        Raises:
            ConfigError: several images or texts are given, or a layer, kind of map or timestep is unknown.
        """
        if not is_single(image):
            raise ConfigError("observe takes one image")
        (text,) = checked_texts(text)
        if isinstance(timestep, bool) or not isinstance(timestep, int | float | np.integer | np.floating):
            raise ConfigError(f"timestep is {timestep!r}; expected a number")
        prepared = prepare(image)
        self._notice([prepared], [text])
        seen = self._model.observe(
            prepared,
            text,
            float(timestep),
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
            timestep=int(timestep) if timestep == int(timestep) else float(timestep),
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
            map: kind of the maps shown: ``"probs"``, ``"logits"``, ``"cosine"`` or ``"text_probs"``. If it is not that
                of the score, the network runs twice.
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

    def calibrate(
        self,
        items: Iterable[MatchItem],
        validation: Iterable[MatchItem] | None = None,
        *,
        over: Collection[str] = OVER,
        maps: Sequence[str] = MAPS,
        seed: int = 0,
        progress: Progress = None,
    ) -> Calibration:
        """Fits the score to labelled items: what each timestep, layer and head counts, and the probability of a match.

        Each item is scored once for each kind of map; weights are then fitted to the numbers of all layers and heads.
        Of several models the one is chosen that does best on items that it has not seen, and none if that is not
        clearly better than the score of now. The result says what it is worth; this scorer stays as it is:
        :meth:`with_calibration` gives one of calibrated scores.

        Weights are of this scorer's own timesteps, so a calibrated score takes no more of them than the score of now.
        For others, choose them first: ``scorer.with_config(noise_range=(0.09, 0.81)).calibrate(items)``. A scorer that
        is calibrated is calibrated anew, from the score before.

        Args:
            items: items with a matching pair, and another of its image or text that does not match. Those without are
                left out. They need at least four groups of images.
            validation: other items, on which it is measured what the calibration is worth; None for a cross-validation.
            over: what weights may differ by, some or all of ``"steps"``, ``"layers"``, ``"heads"``, ``"maps"``,
                ``"error"`` and ``"prior"``. Without ``"layers"`` the layers of now count alike (all, if attention does
                not count now), without ``"maps"`` the kind of map of now is kept, and without ``"error"`` the
                denoising term counts only if it does now. Heads differ only where layers do. With ``"prior"`` a weight
                of what each text scores without an image is chosen; otherwise it is that of now.
            maps: kinds of map to choose from, beside that of the score of now: ``"cosine"``, ``"logits"``, ``"probs"``.
            seed: of the division of items in parts; the same gives the same result.
            progress: True, False, or a function of ``(done, total)`` in items; None shows a bar if somebody watches.

        Raises:
            ConfigError: an option is unknown, or there are too few items.
            DatasetError: there are no items, or one is malformed.
            ImageError: an image cannot be read; names the item.
        """
        from discffusion.calibration.run import calibrate

        return calibrate(self, items, validation, over, maps, seed, progress)

    @overload
    def probability(  # type: ignore[overload-overlap]  # a string is an iterable of strings, but it is one text
        self, image: ImageLike, text: str, *, noise: Any = None, progress: Progress = None
    ) -> float: ...
    @overload
    def probability(
        self, image: Iterable[Any], text: Iterable[str], *, noise: Any = None, progress: Progress = None
    ) -> NDArray[np.float64]: ...
    def probability(
        self, image: Any, text: Any, *, noise: Any = None, progress: Progress = None
    ) -> float | NDArray[np.float64]:
        """The probability that an image and a text match, or of pairs of them; see :meth:`score`.

        It is that of a pair drawn as those of the items were that the calibration was fitted to: where matches are
        rarer than among them, it is too high.

        Returns:
            A float, or float64 ``[n]``, 0 to 1.

        Raises:
            ConfigError: the score has no calibration, see ``has_probability``; otherwise as :meth:`score`.
        """
        calibration = self._in_use()
        probability = calibration.probability(self.score(image, text, noise=noise, progress=progress))
        return probability if probability.ndim else float(probability)

    def probability_matrix(
        self, images: Any, texts: str | Iterable[str], *, noise: Any = None, progress: Progress = None
    ) -> NDArray[np.float64]:
        """The probability of every image with every text, float64 ``[n_images, n_texts]``; see :meth:`probability`."""
        calibration = self._in_use()
        return calibration.probability(self.matrix(images, texts, noise=noise, progress=progress))

    def _better_for(self, ranked: str, method: str) -> Scorer:
        """This scorer with its calibration or without, as that measured it for ``"texts"`` or ``"images"``."""
        if method != "auto":
            raise ConfigError(f"method is {method!r}; rank takes 'auto', or None (with_config takes methods)")
        if self.calibration is None:
            raise ConfigError(
                "method is 'auto', but there is no calibration to go by; scorer.calibrate makes one"
            )
        measured = self.calibration.report["directions"].get(ranked)
        worse = measured is not None and measured["after"]["value"] < measured["before"]["value"]
        return self.with_calibration(None if worse else self.calibration)

    def _in_use(self) -> Calibration:
        """The calibration of the scores.

        Raises:
            ConfigError: they have none.
        """
        if self.calibration is None:
            raise ConfigError(
                "there is no calibration, which makes scores probabilities: fit one to labelled items by "
                "scorer.calibrate(items) and take scorer.with_calibration(it), which takes a file of one too"
            )
        if not self.has_probability:
            raise ConfigError(
                "the calibration belongs to scores of another configuration or with other deltas; take "
                "scorer.with_calibration(scorer.calibration), or calibrate this one by scorer.calibrate(items)"
            )
        return self.calibration
