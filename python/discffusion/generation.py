"""Text-to-image generation: options checked, prompts and seeds lined up, images made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from discffusion import _native
from discffusion._arguments import checked_floats, checked_texts
from discffusion._progress import Progress, reporting
from discffusion.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

    from discffusion import _core

__all__ = ["GenerateOptions", "check", "decode", "generate"]

_LAST_SEED = 2**63 - 1


class GenerateOptions(TypedDict, total=False):
    """Options of :meth:`Scorer.generate` that are given by name; its documentation says what they mean."""

    eta: float
    guidance_rescale: float
    original_size: Sequence[int] | None
    crops_coords_top_left: Sequence[int] | None
    target_size: Sequence[int] | None
    latents: Any
    noise: Any
    batch_size: int | str
    progress: Progress


def generate(
    model: _core.Scorer,
    prompt: str | Iterable[str],
    negative_prompt: str | Iterable[str] | None,
    seed: int | Iterable[int],
    options: dict[str, Any],
    latents: Any,
    noise: Any,
    progress: Progress,
) -> list[Image]:
    """The images of every prompt, those of one prompt together."""
    prompts = checked_texts(prompt)
    options = _plain(options)
    images = options["num_images"] or 1
    _core_check(model, options)  # before anything is made of arrays and seeds
    with reporting(progress) as report:
        made = _native.core().generate(
            model,
            prompts,
            _negatives(negative_prompt, len(prompts)),
            _seeds(seed, len(prompts), images),
            options,
            _stacked(latents, "latents", ("images", "C", "h", "w"), len(prompts) * images),
            _stacked(noise, "noise", ("images", "steps", "C", "h", "w"), len(prompts) * images),
            report,
        )
    return [_image(pixels) for pixels in made]


def check(model: _core.Scorer, options: dict[str, Any]) -> dict[str, Any]:
    """The options completed with the model's own values."""
    return _core_check(model, _plain(options))


def decode(model: _core.Scorer, latents: Any) -> list[Image]:
    """Latents as images."""
    given = _stacked(latents, "latents", ("n", "C", "h", "w"), 1)
    if given is None:
        raise ConfigError("latents is None; expected float32 [n, C, h, w]")
    images = _native.core().decode_latents(model, given)
    pixels = np.rint((images / 2 + 0.5).clip(0, 1) * 255).astype(np.uint8)
    return [_image(one) for one in pixels.transpose(0, 2, 3, 1)]


def _core_check(model: _core.Scorer, options: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _native.core().generate_check(model, options)
    return found


def _image(pixels: NDArray[np.uint8]) -> Image:
    import PIL.Image

    return PIL.Image.fromarray(np.ascontiguousarray(pixels))


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Numbers as JSON has them; what is none becomes an error."""
    plain = {}
    for name, value in options.items():
        if isinstance(value, np.integer | np.floating):
            value = value.item()
        if value is not None and (
            isinstance(value, bool)
            or not isinstance(value, int | float | str | list | tuple | np.ndarray)
            or (isinstance(value, float) and not np.isfinite(value))
        ):
            raise ConfigError(f"{name} is {value!r}; expected a finite number")
        plain[name] = value
    return plain


def _negatives(given: str | Iterable[str] | None, count: int) -> list[str]:
    if given is None:
        return []
    texts = checked_texts(given)
    if isinstance(given, str):
        return texts * count
    if len(texts) != count:
        raise ConfigError(
            f"{len(texts)} negative prompts and {count} prompts were given; give one, or as many"
        )
    return texts


def _seeds(given: Any, count: int, images: Any) -> list[int]:
    """One seed a prompt."""
    one = isinstance(given, int | np.integer)
    if not one and (isinstance(given, str | bytes) or not isinstance(given, Iterable)):
        raise ConfigError(f"seed is {given!r}; expected a whole number, or one a prompt")
    seeds = [given] * count if one else list(given)
    if len(seeds) != count:
        raise ConfigError(f"{len(seeds)} seeds and {count} prompts were given; give one, or as many")
    most = _LAST_SEED - (images - 1 if isinstance(images, int) else 0)
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= most:
            raise ConfigError(f"seed is {seed!r}; expected a whole number from 0 to 2^63 - 1")
    return [int(seed) for seed in seeds]


def _stacked(given: Any, name: str, axes: tuple[str, ...], count: int) -> NDArray[np.float32] | None:
    """float32 with the axis of images, which may be left out where there is one."""
    if given is None:
        return None
    if count == 1 and getattr(given, "ndim", len(axes)) == len(axes) - 1:
        given = given[None]
    return checked_floats(given, name, axes)
