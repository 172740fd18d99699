"""What commands have in common: the options of model and score, and what becomes of an error.

The options of a score are made from the core's own table, so a new one appears here by itself.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from discffusion.cli import words
from discffusion.cli.words import Words, spoken
from discffusion.errors import ConfigError, DiscffusionError, InstallationError, OutputError

if TYPE_CHECKING:
    from discffusion.scorer import Scorer

_LISTS = ("float_list", "float_pair", "int_pair")
_PANEL = "Score"
#: options of a score that do not belong to a calibration
_BESIDE = ("batch_size", "truncate", "seed")
#: tables of options: the panel of each in the help, and what goes before a name that is taken
_TABLES = {
    "fields": (_PANEL, "score"),
    "training": ("Training", "train"),
    "generation": ("Generation", "image"),
}


@dataclass
class Setup:
    """What the common options say."""

    model: str | None = None
    revision: str | None = None
    variant: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    prediction_type: str | None = None
    config: str = "default"
    json: bool = False
    fields: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    words: dict[str, Words] = field(default_factory=dict)

    @contextmanager
    def speaking_of(self, table: str) -> Iterator[None]:
        """An error in here is about an option of this table: ``"fields"``, ``"training"`` or ``"generation"``."""
        try:
            yield
        except DiscffusionError as error:
            raise type(error)(spoken(str(error), self.words.get(table, Words()))) from error

    def scorer(self, deltas: str | None = None, calibration: str | None = None) -> Scorer:
        """Loads the model, on a device of its own if there are several processes, and the files that are given."""
        from discffusion._workers import local_device
        from discffusion.config import ScoreConfig
        from discffusion.scorer import Scorer

        self.check(calibration)
        with self.speaking_of("fields"):
            config = ScoreConfig.make(self.config, **self.fields)
        scorer = Scorer(
            self.model,
            revision=self.revision,
            variant=self.variant,
            device=local_device(self.device),
            dtype=self.dtype,
            prediction_type=self.prediction_type,
            config=config,
        )
        if deltas is not None:
            scorer.load_deltas(deltas)
        if calibration is None:
            return scorer
        with of_files():
            return scorer.with_calibration(calibration)

    def check(self, calibration: str | None, *, preset: bool = False) -> None:
        """Refuses options of the score beside a calibration, which has its own; before anything is loaded.

        Args:
            preset: whether a preset may be named all the same, because it is another choice.
        """
        if calibration is None:
            return
        if self.config != "default" and not preset:
            self._refuse("--config")
        for name in self.fields:
            if name not in _BESIDE:
                self._refuse(self.words.get("fields", Words()).named(name) or name)

    def _refuse(self, option: str) -> None:
        raise typer.BadParameter(
            f"{option} does not go with --calibration, which has its own options of the score; --batch-size, "
            "--truncate and --seed do"
        )


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise typer.BadParameter(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N")
    return name


def _common(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="A folder in the diffusers layout, or a hub id.",
            show_default="the bundled pocket model",
            rich_help_panel="Model",
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a hub model.", rich_help_panel="Model")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Variant of the weight files, such as fp16.", rich_help_panel="Model")
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel="Model", callback=_device)
    ] = "auto",
    dtype: Annotated[
        Literal["auto", "fastest", "float32", "float16", "bfloat16"],
        typer.Option(help="Type that is computed in.", rich_help_panel="Model"),
    ] = "auto",
    prediction_type: Annotated[
        Literal["epsilon", "v_prediction"] | None,
        typer.Option(
            help="What the model predicts, where its scheduler's configuration says otherwise.",
            rich_help_panel="Model",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print results as JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
) -> None: ...


def _preset(
    config: Annotated[
        str,
        typer.Option(
            help="Preset to start from: default, attention, paper or release.", rich_help_panel=_PANEL
        ),
    ] = "default",
) -> None: ...


def option_rows(table: str = "config") -> list[dict[str, Any]]:
    """The core's table of options: ``"config"``, ``"train"`` or ``"generate"``.

    Empty if the core cannot be loaded, which the command then reports.
    """
    from discffusion import _native

    try:
        rows: list[dict[str, Any]] = getattr(_native.core(), f"{table}_options")()
    except InstallationError:
        return []
    return rows


def plain(command: Callable[..., None]) -> Callable[..., None]:
    """`command(setup, ...)` with the options of the model."""
    return _extended(command, _parameters(_common), {})


def scoring(
    command: Callable[..., None], rows: list[dict[str, Any]], training: list[dict[str, Any]] | None = None
) -> Callable[..., None]:
    """`command(setup, ...)` with the options of the model, of a score and, if they are given, of training.

    Where two options have one name, that of the command comes first, then that of the score; the other gets
    `score-` or `train-` before its name.
    """
    return _tabled(command, _parameters(_preset), {"fields": rows, "training": training or []})


def generating(command: Callable[..., None], rows: list[dict[str, Any]]) -> Callable[..., None]:
    """`command(setup, ...)` with the options of the model and of generation."""
    return _tabled(command, [], {"generation": rows})


def _tabled(
    command: Callable[..., None], more: list[inspect.Parameter], tables: dict[str, list[dict[str, Any]]]
) -> Callable[..., None]:
    taken = {parameter.name for parameter in _parameters(command)}
    made: dict[str, _Made] = {}
    more = [*_parameters(_common), *more]
    for table, rows in tables.items():
        panel, prefix = _TABLES[table]
        for row in rows:
            name = row["name"] if row["name"] not in taken else f"{prefix}_{row['name']}"
            made[name] = _Made(table, row["name"], row["kind"])
            more.append(_option(row, name, panel))
            taken.add(name)
    return _extended(command, more, made)


@dataclass(frozen=True)
class _Made:
    """Where the value of an option made from a table goes."""

    group: str
    name: str
    kind: str


def _extended(
    command: Callable[..., None], more: list[inspect.Parameter], made: dict[str, _Made]
) -> Callable[..., None]:
    own = [parameter for parameter in _parameters(command) if parameter.name != "setup"]
    keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in [*own, *more]]
    speech = _words(command, keyword, made)
    of_tables = {table: _words(command, keyword, made, table) for table in _TABLES}

    def run(**values: Any) -> None:
        words.now = speech
        with _reported(values.pop("debug")):
            given: dict[str, dict[str, Any]] = {table: {} for table in _TABLES}
            for name, option in made.items():
                value = values.pop(name)
                if value is not None:
                    given[option.group][option.name] = _parse(value, option.kind)
            own_values = {parameter.name: values.pop(parameter.name) for parameter in own}
            setup = Setup(**{**values, **given}, words=of_tables)
            command(setup, **own_values)

    run.__doc__ = command.__doc__
    run.words = speech  # type: ignore[attr-defined]
    run.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in keyword}
    return run


def _parameters(function: Callable[..., None]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())


def _option(row: dict[str, Any], name: str, panel: str) -> inspect.Parameter:
    kind, default = row["kind"], row["default"]
    kinds: dict[str, Any] = {"int": int, "float": float, "bool": bool}
    if kind == "choice":
        kinds["choice"] = Literal[tuple(row["choices"])]
    several = kind.startswith("choice_or_")
    choices = f" One of {', '.join(row['choices'])}." if several else ""
    lists = " Separated by commas." if several or kind in _LISTS else ""
    dashed = name.rstrip("_").replace("_", "-")
    option = typer.Option(
        f"--{dashed}/--no-{dashed}" if kind == "bool" else f"--{dashed}",
        help=row["help"] + choices + lists,
        show_default=False if default is None else str(default),
        rich_help_panel=panel,
    )
    value: Any = kinds.get(kind, str)
    annotation: Any = Annotated[value | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _parse(value: Any, kind: str) -> Any:
    """What was typed as the value the core checks: a number where it reads as one, a list where there are several."""
    if not isinstance(value, str):
        return value
    if kind == "float_pair" and value == "none":
        return None
    items = [_number(item.strip()) for item in value.split(",")]
    must_be_list = kind in _LISTS or (
        kind.startswith("choice_or_") and (len(items) > 1 or not isinstance(items[0], str) or "." in value)
    )
    return items if must_be_list else items[0]


def _number(text: str) -> Any:
    try:
        number = json.loads(text)
    except ValueError:
        return text
    return number if isinstance(number, int | float) and not isinstance(number, bool) else text


Deltas = Annotated[str | None, typer.Option(help="File of deltas to score with.", rich_help_panel="Model")]
Calibration = Annotated[
    str | None,
    typer.Option(
        help="File of a calibration to score with, made by calibrate; it has its own options of the score.",
        rich_help_panel="Model",
    ),
]

#: arguments of Python that have another name in a command
_OTHER_NAMES = {
    "train": {"checkpoint_dir": "output"},
    "score_shards": {"allow_missing": "allow_cut"},
}


def _words(
    command: Callable[..., None],
    keyword: list[inspect.Parameter],
    made: dict[str, _Made],
    table: str | None = None,
) -> Words:
    """How arguments are typed in this command. Of several that have one name, that of the `table` counts, or else the
    command's own, then that of the score."""

    def weight(parameter: inspect.Parameter) -> int:
        group = made[parameter.name].group if parameter.name in made else None
        return 3 if group == table and table is not None else {None: 2, "fields": 1}.get(group, 0)

    typed: dict[str, tuple[str, str | None]] = {}
    switches: dict[str, tuple[str | None, str | None]] = {}
    for parameter in sorted(keyword, key=weight):
        option: Any = next(iter(getattr(parameter.annotation, "__metadata__", ())), None)
        if isinstance(option, type(typer.Argument())) or parameter.name in ("json", "debug", "list_"):
            continue
        dashed = "--" + parameter.name.rstrip("_").replace("_", "-")
        # Typer takes the first name of an option for a default, until it sees that it is none
        names = [one for one in (option.default, *(option.param_decls or ())) if isinstance(one, str)]
        said = next((one for one in names if one.startswith("--")), dashed)
        on, _, off = said.partition("/")
        name = made[parameter.name].name if parameter.name in made else parameter.name
        typed[name] = (on, off or None)
        switches.pop(name, None)
        kinds = getattr(parameter.annotation, "__args__", ())
        if off or bool in kinds:
            switches[name] = (on, off or None)
    for name, here in _OTHER_NAMES.get(command.__name__, {}).items():
        typed[name] = typed[here]
        if here in switches:
            switches[name] = switches[here]
    options = {name: on for name, (on, _) in typed.items() if name not in switches}
    return Words(options, switches, data=command.__name__ in ("evaluate", "train", "calibrate"))


@contextmanager
def of_files() -> Iterator[None]:
    """What is wrong in here is a file, not how the command was typed."""
    try:
        yield
    except ConfigError as error:
        raise DiscffusionError(str(error)) from error


@contextmanager
def _reported(debug: bool) -> Iterator[None]:
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
        raise
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        else:
            print("discffusion: " + " ".join(_message(error).split()), file=sys.stderr)
        raise typer.Exit(2 if _is_usage(error) else 1) from None


def _is_usage(error: BaseException) -> bool:
    """Whether another command would do; not, whether files are as they should be."""
    return isinstance(error, ConfigError) and not isinstance(error, OutputError)


def _message(error: BaseException) -> str:
    if isinstance(error, DiscffusionError):
        return spoken(str(error), words.now)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return f"unexpected {type(error).__name__}: {error} (--debug shows the trace)"
