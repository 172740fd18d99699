"""Tables and figures by name."""

from __future__ import annotations

from discffusion._registry import Entry, Registry
from discffusion.reproduce.experiment import Experiment

__all__ = ["NAMES", "describe_experiments", "experiment", "experiment_names"]

#: Figures 1 and 2 are drawings of the method
NAMES: tuple[str, ...] = (
    *(f"table{number}" for number in range(1, 13)),
    *(f"figure{number}" for number in range(3, 11)),
)
_EXPERIMENTS: Registry[Experiment] = Registry(
    "table or figure", {name: Entry(f"discffusion.reproduce.experiments.{name}:EXPERIMENT") for name in NAMES}
)


def experiment_names() -> list[str]:
    """All names, tables first."""
    return list(_EXPERIMENTS)


def experiment(name: str) -> Experiment:
    """The table or figure of a name such as ``table3`` or ``Figure 4``.

    Raises:
        ConfigError: there is none; the message lists all.
    """
    plain = str(name).lower().replace(" ", "").replace("_", "").replace("-", "")
    return _EXPERIMENTS.load(plain if plain in _EXPERIMENTS else name)


def describe_experiments() -> dict[str, str]:
    """What each shows, in a line, by name; a gap is named, and what is missing of one that is measured in part."""
    return {
        name: shown.title
        + (f" (gap: {shown.gap})" if shown.gap else "")
        + (f" (in part: {shown.partly})" if shown.partly else "")
        for name, shown in _EXPERIMENTS.items()
    }
