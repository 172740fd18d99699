"""The order of the package: a module imports only what stands before it here, and no two import each other.

Imports inside functions count like any other, and so do the names of modules in strings, which registries import
later. Only imports for type checkers, under ``if TYPE_CHECKING``, are free. The package itself, ``__init__``, is the
front for users, which names modules by strings; the command line stands above it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import discffusion

ROOT = Path(discffusion.__file__).parent

#: Modules and packages of the package, from the ground up; those of one line do not import each other. An entry with a
#: dot takes a module out of its package.
ORDER = """
errors _version _deprecated _options
_extras _native _warning _files _lora_files _markdown _safetensors _memory _progress _layers
_workers _parquet images families _registry
pipelines _pillow _arguments config
hub _identity _processes plot stages
deltas generation observation data
pocket
_unfamiliar
evaluation.estimate evaluation.intervals evaluation.items evaluation.record evaluation.metrics.logistic
evaluation.scoring evaluation.trials
evaluation.metrics.calibration_error evaluation.metrics.metric
evaluation.metrics.calibration
calibration
explanation staged
scorer
training callbacks
trainer evaluation baselines shards
__init__
reproduce bench demo pytest_plugin
cli
__main__
"""

LEVEL = {name: level for level, line in enumerate(ORDER.strip().splitlines()) for name in line.split()}
#: old paths of modules that moved: they import the new ones, and nothing imports them
MOVED = {"explaining", "explaining.words", "data.table", "data.hf", "data.webdataset"}
#: a module in a string, as registries write it: ``"discffusion.data.aro:load"``
IN_TEXT = re.compile(r"discffusion\.([a-z_0-9.]+)(?::\w+)?")


def modules() -> dict[str, Path]:
    """By its name behind ``discffusion.``, the file of every module; a package is its ``__init__``."""
    names = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return names


MODULES = modules()


def imported(path: Path) -> Iterator[str]:
    """The modules of this package that a file imports at any time, or names in a string."""
    yield from _imported(ast.parse(path.read_text(encoding="utf-8")))


def _imported(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(child, ast.List) and "-m" in [getattr(part, "value", None) for part in child.elts]:
            continue  # a command: a module that is run by another process is not imported
        if isinstance(child, ast.Import):
            yield from (_module(alias.name) for alias in child.names if _is_own(alias.name))
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports name the package"
            if _is_own(child.module or ""):
                yield from (_module(f"{child.module}.{alias.name}") for alias in child.names)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            named = IN_TEXT.fullmatch(child.value)
            if named and named[1] in MODULES:
                yield named[1]
        else:
            yield from _imported(child)


def _is_own(name: str) -> bool:
    return name.partition(".")[0] == "discffusion"


def _module(name: str) -> str:
    """The module that an imported name is, or is of."""
    inner = name.partition(".")[2]
    while inner and inner not in MODULES:
        inner = inner.rpartition(".")[0]
    return inner or "__init__"


def entry(module: str) -> str:
    """The entry of the order that a module belongs to: its own, or that of its package."""
    return module if module in LEVEL else module.partition(".")[0]


#: without the compiled core, which stands below everything
IMPORTS = {
    name: {other for other in imported(path) if other != name}
    for name, path in MODULES.items()
    if name not in MOVED
}


def test_every_module_has_a_place() -> None:
    assert {entry(name) for name in IMPORTS} == set(LEVEL)


@pytest.mark.parametrize("name", IMPORTS)
def test_a_module_imports_only_what_stands_before_it(name: str) -> None:
    own = entry(name)
    upward = [other for other in IMPORTS[name] if entry(other) != own and LEVEL[entry(other)] >= LEVEL[own]]
    assert not upward, f"{name} stands at or below {', '.join(sorted(upward))}"


def test_no_modules_import_each_other() -> None:
    left = {name: set(others) for name, others in IMPORTS.items()}
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"among these there is a circle: {', '.join(sorted(left))}"


@pytest.mark.parametrize("name", sorted(MOVED - {"explaining"}))
def test_what_moved_names_its_new_place(name: str) -> None:
    assert set(imported(MODULES[name])) - {"_deprecated"} <= IMPORTS.keys()
    assert not [other for other, names in IMPORTS.items() if name in names]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from discffusion.scorer import Scorer", ["scorer"]),
        ("def f():\n    from discffusion.scorer.model import LoadedModel", ["scorer.model"]),
        ("import discffusion.errors", ["errors"]),
        ("from discffusion import _native, evaluate", ["_native", "__init__"]),
        ("if TYPE_CHECKING:\n    from discffusion.scorer import Scorer", []),
        ("try:\n    import discffusion.hub\nexcept ImportError:\n    pass", ["hub"]),
        ("TARGET = 'discffusion.data.aro:load'", ["data.aro"]),
        ("run([sys.executable, '-m', 'discffusion.bench.child'])", []),
        ("import numpy", []),
    ],
)
def test_imports_are_found(text: str, expected: list[str]) -> None:
    assert list(_imported(ast.parse(text))) == expected
