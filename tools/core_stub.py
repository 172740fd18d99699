"""Writes what ``_core.pyi`` says of options, from the core's own tables. A test compares both.

Usage: python tools/core_stub.py [--check]
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from discffusion import _native
from discffusion._options import alternatives

STUB = Path(__file__).parents[1] / "python" / "discffusion" / "_core.pyi"
BEGIN, END = "# Options, written by tools/core_stub.py\n", "# End of the options\n"


def generated() -> str:
    """What the stub says of options."""
    core = _native.core()
    return "\n".join([_training(core.train_options()), _score(core.ScoreConfig, core.config_options())])


def written() -> str:
    """The stub with options as they are now."""
    before, _, rest = STUB.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{generated()}\n{END}{after}"


def _training(rows: Sequence[Mapping[str, Any]]) -> str:
    fields = "".join(f"    {row['name']}: {_type(row, held=False)}\n" for row in rows)
    return f"class _TrainOptions(TypedDict, total=False):\n{fields}"


def _score(kind: Any, rows: Sequence[Mapping[str, Any]]) -> str:
    arguments = "".join(f"        {row['name']}: {_type(row, held=False)} = ...,\n" for row in rows)
    properties = "".join(
        f"    @property\n    def {row['name']}(self) -> {_type(row, held=True)}: ...\n" for row in rows
    )
    methods = "".join(_method(kind, definition) for definition in _METHODS.split("\n\n"))
    return (
        f"@final\nclass ScoreConfig:\n{_docstring(kind, 4)}\n{_CLASS}"
        f"    def __new__(\n        cls,\n        *,\n{arguments}    ) -> ScoreConfig: ...\n{properties}{methods}"
    )


def _method(kind: Any, definition: str) -> str:
    """A method with the core's documentation, if it has a name of its own."""
    name = definition.partition("def ")[2].partition("(")[0]
    if name.startswith("__"):
        return definition.rstrip() + "\n"
    return definition.rstrip().removesuffix(" ...") + "\n" + _docstring(getattr(kind, name), 8)


def _docstring(of: Any, indent: int) -> str:
    lines = (inspect.getdoc(of) or "").rstrip().splitlines()
    margin = " " * indent
    if len(lines) == 1:
        return f'{margin}"""{lines[0]}"""\n'
    rest = "".join(f"{margin}{line}".rstrip() + "\n" for line in lines[1:])
    return f'{margin}"""{lines[0]}\n{rest}{margin}"""\n'


def _type(row: Mapping[str, Any], *, held: bool) -> str:
    return " | ".join(_named(each) for each in alternatives(row, held=held))


def _named(type_: Any) -> str:
    """A type as it is written."""
    if type_ is None or type_ is Ellipsis:
        return "None" if type_ is None else "..."
    if get_origin(type_) is Literal:
        return "Literal[" + ", ".join(f'"{choice}"' for choice in get_args(type_)) + "]"
    if get_origin(type_) is not None:
        return f"{get_origin(type_).__name__}[{', '.join(map(_named, get_args(type_)))}]"
    return str(type_.__name__)


_CLASS = """\
    PRESETS: ClassVar[tuple[str, ...]]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    __signature__: ClassVar[Signature]

"""
_METHODS = """\
    @staticmethod
    def preset(name: str) -> ScoreConfig: ...

    @classmethod
    def make(cls, config: ScoreConfig | str | Mapping[str, Any] | None = None, **fields: Any) -> ScoreConfig: ...

    def replace(self, **fields: Any) -> ScoreConfig: ...

    def to_dict(self) -> dict[str, Any]: ...

    def changes(self) -> dict[str, Any]: ...

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ScoreConfig: ...

    def to_json(self) -> str: ...

    @staticmethod
    def from_json(text: str) -> ScoreConfig: ...

    def __replace__(self, **fields: Any) -> ScoreConfig: ...

    def __eq__(self, other: object, /) -> bool: ...

    def __hash__(self) -> int: ...

    def __reduce__(self) -> tuple[Any, ...]: ...

    def __copy__(self) -> ScoreConfig: ...

    def __deepcopy__(self, _memo: Any) -> ScoreConfig: ...

    def __setattr__(self, name: str, value: Any, /) -> None: ...

    def __delattr__(self, name: str, /) -> None: ...
"""

if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(
            0 if STUB.read_text(encoding="utf-8") == written() else f"{STUB} is not as this program writes it"
        )
    STUB.write_text(written(), encoding="utf-8")
