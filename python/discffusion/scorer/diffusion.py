"""What a text-to-image diffusion model does beside scoring: tokens, latents, embeddings, generated images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from discffusion import generation
from discffusion._arguments import checked_texts
from discffusion._progress import Progress, reporting
from discffusion.errors import ConfigError
from discffusion.images import is_single, prepare_many
from discffusion.scorer.model import LoadedModel

if TYPE_CHECKING:
    from PIL.Image import Image
    from typing_extensions import Unpack

    from discffusion.generation import GenerateOptions

__all__ = ["DiffusionModel"]


class DiffusionModel(LoadedModel):
    """A loaded model whose parts are used one by one: tokenizer, VAE, text encoder and sampler."""

    def tokenize(self, text: str) -> NDArray[np.int64]:
        """Token ids, int64 ``[m]`` (77), as the model's own tokenizer gives them, with BOS, EOS and padding.

        In Stable Diffusion 3 those of CLIP and of T5, as the columns of a map are; -1 where the model lacks T5.
        """
        (text,) = checked_texts(text)
        return self._model.tokenize(text, self._config.truncate)["ids"]

    def count_tokens(self, texts: str | Iterable[str]) -> list[tuple[int, bool]]:
        """Of each text, how many tokens it has, with BOS and EOS, and whether it is cut to the model's length."""
        tokenized = [self._model.tokenize(text, "silent") for text in checked_texts(texts)]
        return [(int(tokens["needed"]), bool(tokens["truncated"])) for tokens in tokenized]

    def encode_images(self, images: Any) -> NDArray[np.float32]:
        """Latents ``z = s (E(x) − c)``, float32 ``[n, C, h, w]``; `n` is 1 for one image."""
        unique, index = prepare_many([images] if is_single(images) else images)
        if not unique:
            raise ConfigError("encode_images was given no images")
        return self._model.encode_images(unique, self._config)[index]

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
        return self._model.embed_images(unique, self._config)[index]

    def embed_texts(self, texts: str | Iterable[str], *, progress: Progress = None) -> NDArray[np.float32]:
        """Texts as vectors of length 1, float32 ``[n, D]``; see :meth:`embed_images`.

        Each takes eight evaluations of the network, with noise by the configuration's ``seed``.

        Raises:
            ConfigError: there are no texts, or one is not a string.
        """
        distinct, index = self._each_once("embed_texts", texts)
        with reporting(progress) as report:
            vectors = self._model.embed_texts(distinct, self._config, report)
        return vectors[index]

    def blind(self, texts: str | Iterable[str], *, progress: Progress = None) -> NDArray[np.float64]:
        """What texts score without an image, float64 ``[n]``: what ``prior="null"`` subtracts, before its weight.

        The image is replaced by null images: the noise alone, and two latents that are noise themselves. At each noise
        level, the scores of a text with them are joined by log-mean-exp; the result is the mean over the levels. It is
        computed once for a text.

        A benchmark whose right texts have the higher blind scores can be answered in part without looking.

        Raises:
            ConfigError: there are no texts, or one is not a string.
        """
        distinct, index = self._each_once("blind", texts)
        with reporting(progress) as report:
            by_step = self._model.blind(distinct, self._config, report)
        means: NDArray[np.float64] = by_step.mean(axis=1)
        return means[index]

    def decode_latents(self, latents: Any) -> list[Image]:
        """The way back from :meth:`encode_images`: latents float32 ``[n, C, h, w]`` as images."""
        return generation.decode(self._model, latents)

    @overload
    def generate(  # type: ignore[overload-overlap]  # a string is an iterable of strings, but it is one text
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
        **options: Unpack[GenerateOptions],
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
        **options: Unpack[GenerateOptions],
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
        original_size: Sequence[int] | None = None,
        crops_coords_top_left: Sequence[int] | None = None,
        target_size: Sequence[int] | None = None,
        latents: Any = None,
        noise: Any = None,
        batch_size: int | str = "auto",
        progress: Progress = None,
    ) -> Image | list[Image]:
        """An image for a text, with the deltas that are loaded; several for several texts, or with `num_images`.

        Images are made by DDIM, or by the sampler of latent consistency models where the model is one. An image
        depends on its prompt, its seed and the options, not on what else is made with it (beyond the last bit of a
        few pixels).

        Args:
            prompt: a text, or several.
            steps: of the sampler; None is 50, or 4 with a latent consistency model.
            guidance_scale: how strongly the text counts (classifier-free guidance); at 1 or below the network is asked
                with the text alone, which takes half the time. None is 7.5, or 8.5 with a latent consistency model.
            negative_prompt: what to keep away from, one for all or one a prompt; read where an image is guided.
            height, width: pixels, a multiple of the model's factor (8); None is the size that it was trained on.
            seed: of the initial noise, one for all or one a prompt. Image `j` of a prompt is made with the seed plus
                `j`, and can so be made again alone.
            num_images: images of each prompt, as a list; None is one, and for one text not a list.
            eta: noise added between steps of DDIM, from 0 (none) to 1 (as in DDPM).
            guidance_rescale: from 0 to 1, how far the guided prediction gets its old spread back, against too strong
                colours.
            original_size, target_size: height and width of the image before resizing, and the desired ones, pixels:
                conditioning inputs of Stable Diffusion XL; None is the size of the generated image.
            crops_coords_top_left: top and left coordinates of the crop, pixels, one more; None is ``(0, 0)``.
            latents: float32 ``[images, C, h, w]``, in place of the seeded initial noise; they decide the size.
            noise: float32 ``[images, steps, C, h, w]``, in place of the seeded noise between steps.
            batch_size: images at a time; changes no image.
            progress: True, False, or a function of ``(done, total)``, in steps of images.

        Raises:
            ConfigError: an option is out of range, or does not fit the model.
            OutOfMemoryError: there is too little memory for one image of this size.
        """
        options = {
            "steps": steps,
            "guidance_scale": guidance_scale,
            "guidance_rescale": guidance_rescale,
            "eta": eta,
            "height": height,
            "width": width,
            "original_size": original_size,
            "crops_coords_top_left": crops_coords_top_left,
            "target_size": target_size,
            "num_images": num_images,
            "batch_size": batch_size,
            "truncate": self._config.truncate,
        }
        self._notice([], checked_texts(prompt))
        made = generation.generate(
            self._model, prompt, negative_prompt, seed, options, latents, noise, progress
        )
        return made[0] if isinstance(prompt, str) and num_images is None else made

    def _each_once(self, method: str, texts: str | Iterable[str]) -> tuple[list[str], list[int]]:
        """The distinct texts that a method was given, and for each given text its place among them.

        Raises:
            ConfigError: there are no texts, or one is not a string.
        """
        checked = checked_texts(texts)
        if not checked:
            raise ConfigError(f"{method} was given no texts")
        self._notice([], checked)
        place = {text: position for position, text in enumerate(dict.fromkeys(checked))}
        return list(place), [place[text] for text in checked]
