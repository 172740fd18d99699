"""Training options, each declared once in the core (``src/config/train.rs``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from discffusion import _native
from discffusion._options import hint

if TYPE_CHECKING:
    from discffusion._core import _TrainOptions as TrainOptions

__all__ = ["TrainOptions", "check", "option_table"]


def __getattr__(name: str) -> Any:
    if name == "TrainOptions":  # The options of a Trainer, whose documentation says what they mean
        hints = {row["name"]: hint(row, held=False) for row in option_table()}
        return TypedDict("TrainOptions", hints, total=False)  # type: ignore[operator]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def option_table() -> list[dict[str, Any]]:
    """Every option in order: name, help, kind, choices, range, null, default. For command line and tests."""
    table: list[dict[str, Any]] = _native.core().train_options()
    return table


def check(given: Mapping[str, Any]) -> dict[str, Any]:
    """All options by name: those given, checked, and the core's defaults.

    Raises:
        ConfigError: an option is unknown or out of range; the message names it.
    """
    options: dict[str, Any] = _native.core().train_check(given)
    # those that came later are not written where they have their default
    return {row["name"]: options.get(row["name"], row["default"]) for row in option_table()}
