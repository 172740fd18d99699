"""Types and documentation of options, made from the core's tables of them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

__all__ = ["alternatives", "describe", "document", "hint"]

_SUMMARY = (
    "How a score is computed. Frozen, comparable, hashable and JSON-able; an option left out has the default."
)


def alternatives(row: Mapping[str, Any], *, held: bool) -> tuple[Any, ...]:
    """The types of an option: of what is held, or of what may be given."""
    numbers = tuple[float, float] if row["kind"] == "float_pair" else tuple[int, int]
    types: dict[str, tuple[Any, ...]] = {
        "bool": (bool,),
        "int": (int,),
        "float": (float,),
        "choice": (Literal[tuple(row["choices"])],),
        "choice_or_names": (str, tuple[str, ...] if held else Sequence[str]),
        "choice_or_indices": (str, tuple[int, ...] if held else Sequence[int]),
        "float_list": (tuple[float, ...] if held else Sequence[float],),
        "float_pair": (numbers if held else Sequence[float],),
        "int_pair": (numbers if held else Sequence[int],),
        "int_or_auto": (int, Literal["auto"]),
    }
    return (*types[row["kind"]], *(() if row["null"] is None else (None,)))


def hint(row: Mapping[str, Any], *, held: bool) -> Any:
    """The same as one type."""
    return functools.reduce(operator.or_, alternatives(row, held=held))


def document(rows: Iterable[Mapping[str, Any]]) -> str:
    """The documentation of a configuration."""
    attributes = "\n".join(
        textwrap.fill(f"{row['name']}: {row['help']}", 104, initial_indent=" " * 4, subsequent_indent=" " * 8)
        for row in rows
    )
    raises = "Raises:\n    ConfigError: an option is unknown or out of range; the message names it."
    return f"{_SUMMARY}\n\nAttributes:\n{attributes}\n\n{raises}\n"


def describe(kind: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Gives the core's class of a configuration its documentation, types and signature, and what makes a dataclass.

    The core calls this when it is loaded. With the fields of a dataclass, :func:`dataclasses.fields`,
    :func:`dataclasses.replace` and :func:`dataclasses.asdict` take a configuration.
    """
    fields = [(row["name"], hint(row, held=True), _field(row["default"])) for row in rows]
    made: Any = dataclasses.make_dataclass(kind.__name__, fields, frozen=True, kw_only=True)
    kind.__doc__ = document(rows)
    kind.__annotations__ = made.__annotations__
    kind.__signature__ = inspect.Signature([_parameter(row) for row in rows])
    kind.__dataclass_fields__ = made.__dataclass_fields__


def _field(default: Any) -> Any:
    return dataclasses.field(default=_frozen(default))


def _parameter(row: Mapping[str, Any]) -> inspect.Parameter:
    given = hint(row, held=False)
    return inspect.Parameter(
        row["name"], inspect.Parameter.KEYWORD_ONLY, default=_frozen(row["default"]), annotation=given
    )


def _frozen(default: Any) -> Any:
    return tuple(default) if isinstance(default, list) else default
