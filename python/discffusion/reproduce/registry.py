"""Tables and figures by name."""

from __future__ import annotations

import difflib
from importlib import import_module

from discffusion.errors import ConfigError
from discffusion.reproduce.experiment import Experiment

__all__ = ["NAMES", "describe_experiments", "experiment", "experiment_names"]

#: Figures 1 and 2 are drawings of the method
NAMES: tuple[str, ...] = (
    *(f"table{number}" for number in range(1, 13)),
    *(f"figure{number}" for number in range(3, 11)),
)


def experiment_names() -> list[str]:
    """All names, tables first."""
    return list(NAMES)


def experiment(name: str) -> Experiment:
    """The table or figure of a name such as ``table3`` or ``Figure 4``.

    Raises:
        ConfigError: there is none; the message lists all.
    """
    plain = str(name).lower().replace(" ", "").replace("_", "").replace("-", "")
    if plain not in NAMES:
        close = difflib.get_close_matches(plain, NAMES, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ConfigError(f"there is no {name!r}{hint}; there are {', '.join(NAMES)}")
    found: Experiment = import_module(f"discffusion.reproduce.experiments.{plain}").EXPERIMENT
    return found


def describe_experiments() -> dict[str, str]:
    """What each shows, in a line, by name; a gap is named, and what is missing of one that is measured in part."""
    found = {name: experiment(name) for name in NAMES}
    return {
        name: of.title
        + (f" (gap: {of.gap})" if of.gap else "")
        + (f" (in part: {of.partly})" if of.partly else "")
        for name, of in found.items()
    }
