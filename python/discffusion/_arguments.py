"""What users give besides images, checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discffusion.errors import ConfigError, DeviceError
from discffusion.images import warn_of_gradient

__all__ = ["checked_floats", "checked_noise", "checked_texts", "has_content", "torch_name", "whole_number"]

_ARTICLES = frozenset({"a", "an", "the"})


def checked_texts(texts: Any) -> list[str]:
    if isinstance(texts, str):
        texts = [texts]
    elif isinstance(texts, bytes | Mapping) or not isinstance(texts, Iterable):
        raise ConfigError(f"a text is a str, not {type(texts).__name__}")
    checked = list(texts)
    for position, text in enumerate(checked):
        if not isinstance(text, str):
            raise ConfigError(f"text {position} is {type(text).__name__}; expected str")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"text {position} is not valid Unicode: {error}") from None
    return checked


def has_content(text: str) -> bool:
    """Whether a text has a word that is no article."""
    return any(word.lower() not in _ARTICLES for word in re.findall(r"\w+", text))


def checked_noise(noise: Any, axes: tuple[str, ...]) -> NDArray[np.float32] | None:
    return None if noise is None else checked_floats(noise, "noise", axes)


def checked_floats(given: Any, name: str, axes: tuple[str, ...]) -> NDArray[np.float32]:
    if hasattr(given, "detach"):  # a torch tensor
        warn_of_gradient(given, name)
        given = given.detach().cpu()
        given = (given.float() if given.is_floating_point() else given).numpy()  # numpy has no bfloat16
    array = np.asarray(given)
    if not np.issubdtype(array.dtype, np.floating):
        raise ConfigError(f"{name} has the dtype {array.dtype}; expected float32")
    if array.ndim != len(axes):
        raise ConfigError(f"{name} has the shape {array.shape}; expected [{', '.join(axes)}]")
    if not np.isfinite(array).all():
        raise ConfigError(f"{name} holds NaN or infinity; expected finite values")
    return np.ascontiguousarray(array, dtype=np.float32)


def torch_name(value: Any, option: str) -> str:
    text = str(value)
    if not isinstance(value, str) and not type(value).__module__.startswith("torch"):
        raise DeviceError(f"{option} is {value!r}; expected a name or a torch {option}")
    return text


def whole_number(name: str, value: object, least: int) -> int:
    """`value`, if it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ConfigError(f"{name} is {value!r}; expected a whole number, {least} or more")
    return int(value)
