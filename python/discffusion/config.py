"""How a score is computed: :class:`ScoreConfig`, a class of the core.

Each option is declared once, in ``src/config/score.rs``. The core is loaded when the class is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from discffusion import _native

if TYPE_CHECKING:
    from discffusion._core import ScoreConfig

__all__ = ["ScoreConfig", "option_table", "preset_names"]


def __getattr__(name: str) -> Any:
    if name == "ScoreConfig":
        return _native.core().ScoreConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def option_table() -> list[dict[str, Any]]:
    """Every option in order: name, help, kind, choices, range, null, default. For command line and tests."""
    table: list[dict[str, Any]] = _native.core().config_options()
    return table


def preset_names() -> list[str]:
    """The names that :meth:`ScoreConfig.preset` takes, the default first."""
    return list(_native.core().ScoreConfig.PRESETS)
