"""The scorer: how well an image and a text match, by a text-to-image diffusion model."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from discffusion import _copying as copying
from discffusion import _memory, _native, generation, hub
from discffusion._arguments import checked_noise, checked_texts, torch_name
from discffusion._foreign import Foreign
from discffusion._progress import Progress, reporting
from discffusion._version import __version__
from discffusion.config import ScoreConfig
from discffusion.errors import ConfigError, DiscffusionError
from discffusion.images import ImageLike, is_single, prepare, prepare_many
from discffusion.observation import Observation, Tokens

if TYPE_CHECKING:
    from types import TracebackType

    from PIL.Image import Image

    from discffusion import _core as compiled
    from discffusion.deltas import Deltas
    from discffusion.explanation import Explanation
    from discffusion.staged import Staged

__all__ = ["Observation", "Scorer", "Tokens"]

#: Raised when a score of the same request changes by more than rounding.
SCORE_VERSION = 2
#: Raised when decoding or resizing of images changes.
PREPROCESS_VERSION = 1


class Scorer:
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
        DeviceError: the device or dtype is not to be had.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        device: Any = "auto",
        dtype: Any = "auto",
        config: ScoreConfig | str | Mapping[str, Any] | None = None,
        lazy: bool = True,
        revision: str | None = None,
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        prediction_type: str | None = None,
        **fields: Any,
    ) -> None:
        core = _native.core()
        self._config = ScoreConfig.make(config, **fields)
        if not isinstance(lazy, bool):
            raise ConfigError(f"lazy is {lazy!r}; expected True or False")
        folder, self._model_id = hub.resolve(
            model,
            revision=revision,
            variant=variant,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
        )
        where, kind = torch_name(device, "device"), torch_name(dtype, "dtype").removeprefix("torch.")
        _native.load_cuda(where)
        loaded = core.Scorer.load(str(folder), variant, where, kind, lazy, prediction_type)
        self._state = copying.State(loaded)
        self._model.check(self._json)
        # what a pickle of this scorer opens the model by; every argument but config, device and dtype
        self._source = copying.source(
            folder,
            self._model_id,
            lazy=lazy,
            revision=revision,
            variant=variant,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
            prediction_type=prediction_type,
        )
        copying.refuse_parts(core)
        self._warned = Foreign() if folder == hub.resolve()[0] else None
        self._revision = hub.commit_of(folder)

    @classmethod
    def from_pretrained(
        cls,
        id_or_path: str | os.PathLike[str] | None = None,
        revision: str | None = None,
        variant: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **options: Any,
    ) -> Scorer:
        """The same as the constructor, with the arguments that ``from_pretrained`` has elsewhere."""
        return cls(
            id_or_path,
            revision=revision,
            variant=variant,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
            **options,
        )

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
        images = [images] if is_single(images) else list(images)
        found = checked_texts(texts)
        wanted = [(int(i), int(j)) for i, j in pairs]
        for i, j in wanted:
            if not (0 <= i < len(images) and 0 <= j < len(found)):
                raise ConfigError(
                    f"pair ({i}, {j}) names none of {len(images)} images and {len(found)} texts"
                )
        return self._scores(images, found, wanted, noise, progress, per_step)

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
        if stages is None:
            if keep is not None:
                raise ConfigError(f"keep is {keep!r}, but there are no stages; give both or neither")
            scores = self.matrix(images, text, noise=noise, progress=progress).ravel()
            order = np.argsort(-scores, kind="stable")[:top_k]
        else:
            staged = self.staged(stages, keep, least=top_k or 1)
            found, whole = staged.staged(images, text, noise=noise, progress=progress)
            scores = found.ravel()
            order = np.argsort(-scores, kind="stable")[: int(whole.sum())][:top_k]
        return [(int(index), float(scores[index])) for index in order]

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

    def observe(
        self,
        image: ImageLike,
        text: str,
        timestep: int = 500,
        sites: str | Iterable[str] = "all",
        map: str = "probs",
        *,
        prediction: bool = True,
        noise: Any = None,
    ) -> Observation:
        """One evaluation of the UNet in full: attention maps, prediction, latents, tokens.

        Args:
            timestep: training timestep, 0 (clean) to 999.
            sites: ``"all"``, ``"down"``, ``"mid"``, ``"up"``, a site's name or several names, as ``"up.3.2"``.
            map: ``"probs"``, ``"logits"`` or ``"cosine"``.
            prediction: whether to form the prediction; without it the network stops after the last site asked for.
            noise: float32 ``[C, h, w]`` in place of the seeded noise.
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
            self._sites(sites),
            str(map),
            bool(prediction),
            self._json,
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

    def explain(
        self,
        image: ImageLike,
        text: str,
        *,
        map: str = "probs",
        sites: str | Sequence[str] = "last(1)",
        noise: Any = None,
        progress: Progress = None,
    ) -> Explanation:
        """Where the score of an image and a text comes from: maps of the words, and what adds up to the score.

        The defaults are those that pointed best at what words name, of all that were measured on the pocket model.

        Args:
            map: kind of the maps shown: ``"probs"``, ``"logits"`` or ``"cosine"``. If it is not that of the score, the
                network runs twice.
            sites: layers whose maps are shown, as the option ``layers`` names them.
            noise: float32 ``[steps, C, h, w]`` in place of the seeded noise.

        Raises:
            ConfigError: several images or texts are given, or a layer or kind of map is unknown.
        """
        from discffusion.explanation import explain

        if is_single(image) and isinstance(text, str):
            image = prepare(image)
            self._notice([image], [text])
        return explain(self, image, text, map, sites, noise, progress)

    def tokenize(self, text: str) -> NDArray[np.int64]:
        """Token ids, int64 ``[m]`` (77), as the model's own tokenizer gives them, with begin, end and padding."""
        (text,) = checked_texts(text)
        return self._model.tokenize(text, self._config.truncate)["ids"]

    def count_tokens(self, texts: str | Iterable[str]) -> list[tuple[int, bool]]:
        """Of each text, how many tokens it has, with begin and end, and whether it is cut to the model's length."""
        found = [self._model.tokenize(text, "silent") for text in checked_texts(texts)]
        return [(int(tokens["needed"]), bool(tokens["truncated"])) for tokens in found]

    def encode_images(self, images: Any) -> NDArray[np.float32]:
        """Latents ``z = s·E(x)``, float32 ``[n, C, h, w]``; `n` is 1 for one image."""
        unique, index = prepare_many([images] if is_single(images) else images)
        if not unique:
            raise ConfigError("encode_images was given no images")
        return self._model.encode_images(unique, self._json)[index]

    def embed_images(self, images: Any) -> NDArray[np.float32]:
        """Images as vectors of length 1, float32 ``[n, D]``, to be compared with those of texts (appendix E).

        ``scorer.embed_images(images) @ scorer.embed_texts(texts).T`` are the cosines ``[n_images, n_texts]``. Each
        image and each text is read once, however many are compared; the cosine tells less than :meth:`score`.

        An image's vector is its latent ``z``: ``D = C·h·w``, 16,384 for Stable Diffusion at 512 pixels. A text's is the
        mean latent that the network expects of noise alone, given the text; deltas change it.
        Only vectors of one model, with the same ``resolution``, ``via`` and ``resize``, compare.

        Raises:
            ImageError: an image cannot be read.
            ConfigError: there are no images.
        """
        unique, index = prepare_many([images] if is_single(images) else images)
        if not unique:
            raise ConfigError("embed_images was given no images")
        self._notice(unique, [])
        return self._model.embed_images(unique, self._json)[index]

    def embed_texts(self, texts: str | Iterable[str], *, progress: Progress = None) -> NDArray[np.float32]:
        """Texts as vectors of length 1, float32 ``[n, D]``; see :meth:`embed_images`.

        Each takes eight evaluations of the network, with noise by the configuration's ``seed``.

        Raises:
            ConfigError: there are no texts, or one is not a string.
        """
        found = checked_texts(texts)
        if not found:
            raise ConfigError("embed_texts was given no texts")
        self._notice([], found)
        place = {text: position for position, text in enumerate(dict.fromkeys(found))}
        with reporting(progress) as report:
            vectors = self._model.embed_texts(list(place), self._json, report)
        return vectors[[place[text] for text in found]]

    def decode_latents(self, latents: Any) -> list[Image]:
        """The way back from :meth:`encode_images`: latents float32 ``[n, C, h, w]`` as pictures."""
        return generation.decode(self._model, latents)

    @overload
    def generate(  # type: ignore[overload-overlap]  # as in score
        self,
        prompt: str,
        steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        seed: int = 0,
        *,
        num_images: None = None,
        eta: float = 0.0,
        guidance_rescale: float = 0.0,
        latents: Any = None,
        noise: Any = None,
        batch_size: int | str = "auto",
        progress: Progress = None,
    ) -> Image: ...
    @overload
    def generate(
        self,
        prompt: str | Iterable[str],
        steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | Iterable[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        seed: int | Iterable[int] = 0,
        *,
        num_images: int | None = None,
        eta: float = 0.0,
        guidance_rescale: float = 0.0,
        latents: Any = None,
        noise: Any = None,
        batch_size: int | str = "auto",
        progress: Progress = None,
    ) -> list[Image]: ...
    def generate(
        self,
        prompt: str | Iterable[str],
        steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | Iterable[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        seed: int | Iterable[int] = 0,
        *,
        num_images: int | None = None,
        eta: float = 0.0,
        guidance_rescale: float = 0.0,
        latents: Any = None,
        noise: Any = None,
        batch_size: int | str = "auto",
        progress: Progress = None,
    ) -> Image | list[Image]:
        """A picture for a text, with the deltas that are loaded; several for several texts, or with `num_images`.

        Images are made by DDIM, or by the sampler of latent consistency models where the model is one. A picture
        depends on its prompt, its seed and the options, not on what else is made with it (beyond the last bit of a
        few pixels).

        Args:
            prompt: a text, or several.
            steps: of the sampler; None is 50, or 4 with a latent consistency model.
            guidance_scale: how strongly the text counts (classifier-free guidance); at 1 or below the network is asked
                with the text alone, which takes half the time. None is 7.5, or 8.5 with a latent consistency model.
            negative_prompt: what to keep away from, one for all or one a prompt; read where a picture is guided.
            height, width: pixels, a multiple of the model's factor (8); None is the size that it was trained on.
            seed: of the initial noise, one for all or one a prompt. Image `j` of a prompt is made with the seed plus
                `j`, and can so be made again alone.
            num_images: images of each prompt, as a list; None is one, and for one text not a list.
            eta: noise added between steps of DDIM, from 0 (none) to 1 (as in DDPM).
            guidance_rescale: from 0 to 1, how far the guided prediction gets its old spread back, against too strong
                colours.
            latents: float32 ``[images, C, h, w]``, in place of the seeded initial noise; they decide the size.
            noise: float32 ``[images, steps, C, h, w]``, in place of the seeded noise between steps.
            batch_size: images at a time; changes no picture.
            progress: True, False, or a function of ``(done, total)``, in steps of images.

        Raises:
            ConfigError: an option is out of range, or does not fit the model.
            OutOfMemoryError: there is too little memory for one picture of this size.
        """
        options = {
            "steps": steps,
            "guidance_scale": guidance_scale,
            "guidance_rescale": guidance_rescale,
            "eta": eta,
            "height": height,
            "width": width,
            "num_images": num_images,
            "batch_size": batch_size,
            "truncate": self._config.truncate,
        }
        self._notice([], checked_texts(prompt))
        made = generation.generate(
            self._model, prompt, negative_prompt, seed, options, latents, noise, progress
        )
        return made[0] if isinstance(prompt, str) and num_images is None else made

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
        return self._model.head_weights(prepared, texts[0], self._json, given)

    def load_deltas(
        self, path: str | os.PathLike[str] | Deltas, *, strict: bool = True, merge: bool | None = None
    ) -> None:
        """Scores with these deltas from now on, in place of others; the weights themselves stay as they are.

        Args:
            path: a file or folder of deltas or LoRA weights, see :meth:`Deltas.load`, or :class:`Deltas`.
            strict: whether deltas made for other weights of the same architecture are an error.
            merge: whether the deltas are added to a copy of the weights once (quicker) or to the results in each
                evaluation (keeps small deltas in half precision); None merges in float32 alone.

        Raises:
            DeltasError: the file cannot be read, or fits another architecture.
        """
        from discffusion.deltas import Deltas

        self._adopt(path if isinstance(path, Deltas) else Deltas.load(path, self, strict=strict), merge)

    @property
    def deltas(self) -> Deltas | None:
        """The deltas that scores are computed with, if any."""
        return self._state.deltas

    def unload_deltas(self) -> None:
        """Scores with the weights alone from now on, as before any deltas were loaded."""
        self._adopt(None)

    def with_deltas(self, deltas: Deltas | None, *, merge: bool | None = None) -> Scorer:
        """A scorer with these deltas, or with none, and the same weights; cheap. See :meth:`load_deltas`."""
        other = self.with_config()
        other._adopt(deltas, merge)
        return other

    @property
    def config(self) -> ScoreConfig:
        """How scores are computed."""
        return self._config

    def with_config(
        self, config: ScoreConfig | str | Mapping[str, Any] | None = None, **fields: Any
    ) -> Scorer:
        """A scorer with another configuration and the same weights; cheap. Fields not named stay as they are."""
        _ = self._model  # of a closed scorer there is none
        other = copy.copy(self)
        other._config = ScoreConfig.make(self._config if config is None else config, **fields)
        other._model.check(other._json)
        return other

    @property
    def model_id(self) -> str:
        """The hub id or the folder that the model came from, or ``"pocket"``."""
        return self._model_id

    @property
    def device(self) -> str:
        """Where the network runs, as ``"cpu"`` or ``"cuda:0"``."""
        return str(self._info["device"])

    @property
    def dtype(self) -> str:
        """The type the network computes in, as ``"float32"``."""
        return str(self._info["dtype"])

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the UNet, the VAE's encoder and the text encoder."""
        return int(self._info["num_parameters"]["total"])

    def info(self) -> dict[str, Any]:
        """What the model is: path, device, dtype, parameters by part, prediction type, resolution, attention sites.

        ``fingerprint`` and ``parts`` are those of :meth:`describe`, ``revision`` is the commit of a hub repository.
        """
        return {**self._info, **self._identity, "revision": self._revision}

    def describe(self) -> dict[str, Any]:
        """What a score depends on, and where it was computed, as plain data.

        ``fingerprint`` stands for all weights, configurations and files of the tokenizer, ``parts`` for those of each
        folder; where the model lies makes no difference. For its first use on a machine all weights are read, a
        gigabyte in a tenth of a second from memory, or as fast as the disk is; then it is known by the files' inode,
        size and times.
        ``score_version`` and ``preprocess_version`` change when the same request gives other numbers than before.

        Raises:
            CheckpointError: a file was written to after the model was loaded from it.
        """
        _, deltas, merge = self._state
        merged = self.dtype == "float32" if merge is None else merge
        return {
            "model": self.model_id,
            "revision": self._revision,
            **self._identity,
            "prediction_type": self._info["prediction_type"],
            "deltas": None if deltas is None else deltas.digest(),
            "deltas_merged": None if deltas is None else merged,
            "config": self._config.to_dict(),
            "timesteps": self._model.timesteps(self._json),
            "dtype": self.dtype,
            "device": self.device,
            "score_version": SCORE_VERSION,
            "preprocess_version": PREPROCESS_VERSION,
            "versions": {"discffusion": __version__, "torch": _native.torch_version()},
        }

    def memory(self) -> dict[str, int]:
        """Bytes: of the weights, and of the whole process in main memory now and at its peak."""
        return {"weights": self.num_parameters * _memory.item_size(self.dtype), **_memory.process()}

    def close(self) -> None:
        """Lets go of the weights. Scorers that share them keep them; further calls of this one are errors."""
        self.__dict__.pop("_info", None)
        self.__dict__.pop("_identity", None)
        copying.forget(self)
        self._state = copying.State()

    def __copy__(self) -> Scorer:
        """Another scorer with the same configuration, deltas and weights, which are shared; cheap."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Scorer:
        """The same as a copy: weights and deltas do not change, so nothing is gained by a second set of them."""
        other = copy.copy(self)
        memo[id(self)] = other
        for name in self.__dict__.keys() - copying.OWN:
            other.__dict__[name] = copy.deepcopy(self.__dict__[name], memo)
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle holds no weights: it names the model, its device and dtype, and holds the configuration and deltas.

        Who reads it opens the same folder, or the same commit of the hub's repository, and gets a CheckpointError if
        another model lies there. One process opens the model once for all pickles of it that follow each other. A
        token is not in it.
        """
        return copying.reduce(self)

    def __enter__(self) -> Scorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        core, given, _ = self._state
        if core is None:
            return f"Scorer({self._model_id!r}, closed)"
        changed = "".join(f", {name}={value!r}" for name, value in self._config.changes().items())
        deltas = "" if given is None else f", deltas={given!r}"
        return f"Scorer({self._model_id!r}, device={self.device!r}, dtype={self.dtype!r}{changed}{deltas})"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<code>{escape(repr(self))}</code>"

    @property
    def _core(self) -> compiled.Scorer | None:
        return self._state.core

    @property
    def _model(self) -> compiled.Scorer:
        core = self._core
        if core is None:
            raise DiscffusionError(f"this Scorer of {self._model_id!r} is closed; make a new one")
        return core

    def _adopt(self, deltas: Deltas | None, merge: bool | None = None) -> None:
        if merge is not None and not isinstance(merge, bool):
            raise ConfigError(f"merge is {merge!r}; expected True, False or None")
        core = self._model.with_deltas(None if deltas is None else deltas._core, merge)
        self._state = copying.State(core, deltas, merge)

    def _prepare(
        self, images: list[Any], texts: list[str], noise: NDArray[np.float32] | None
    ) -> compiled.Prepared:
        """Prepared images and distinct texts, encoded, to be scored in parts."""
        self._notice(images, texts)
        return self._model.prepare(images, texts, self._json, noise)

    def _notice(self, images: Sequence[Any], texts: Sequence[str]) -> None:
        """Warns once if the bundled model is asked of what it does not know; images are prepared ones."""
        if self._warned is not None:
            self._warned.look(images, texts)

    @cached_property
    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = json.loads(self._model.info())
        return info

    @cached_property
    def _identity(self) -> dict[str, Any]:
        parts: dict[str, str] = json.loads(self._model.identity())
        together = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return {"fingerprint": together[:16], "parts": parts}

    @property
    def _json(self) -> str:
        return self._config.to_json()

    def _sites(self, sites: str | Iterable[str]) -> list[str] | None:
        if not isinstance(sites, str):
            return [str(site) for site in sites]
        if sites == "all":
            return None
        if sites in ("down", "mid", "up"):
            return [site["name"] for site in self._info["sites"] if site["name"].startswith(sites + ".")]
        return [sites]

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
        prepared, image_index = prepare_many(images)
        self._notice(prepared, texts)
        distinct = list(dict.fromkeys(texts))
        place = {text: position for position, text in enumerate(distinct)}
        if not pairs:
            return np.zeros((0, len(model.timesteps(self._json))) if per_step else 0)
        rows = np.array([(image_index[i], place[texts[j]]) for i, j in pairs], dtype=np.int64)
        with reporting(progress) as report:
            steps = model.score_pairs(prepared, distinct, rows, self._json, given_noise, report)
        scores: NDArray[np.float64] = steps if per_step else steps.mean(axis=1)
        return scores
