"""Texts that are longer than a model reads: said once a request, as :class:`discffusion.Scorer` does."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from discffusion.errors import ConfigError

__all__ = ["TRUNCATE", "check_truncate", "tell_truncated"]

TRUNCATE = ("error", "warn", "silent")


def check_truncate(truncate: str) -> str:
    if truncate not in TRUNCATE:
        raise ConfigError(f"truncate is {truncate!r}; expected {', '.join(TRUNCATE)}")
    return truncate


def tell_truncated(texts: Sequence[str], lengths: Sequence[int], limit: int, truncate: str) -> None:
    """Warns of texts of more than `limit` tokens, or refuses them.

    Args:
        lengths: tokens of each text, with BOS and EOS.

    Raises:
        ConfigError: there are some, and `truncate` is ``"error"``.
    """
    long = [(text, length) for text, length in zip(texts, lengths, strict=True) if length > limit]
    if not long or truncate == "silent":
        return
    text, length = long[0]
    message = (
        f"{len(long)} of {len(texts)} texts have more than the {limit} tokens that the model reads, "
        f"such as {text[:60]!r} ({length} tokens)"
    )
    if truncate == "error":
        raise ConfigError(f"{message}; shorten them, or let truncate be 'warn' or 'silent'")
    logging.getLogger("discffusion").warning("%s; the rest is truncated", message)
