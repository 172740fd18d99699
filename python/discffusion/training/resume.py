"""Going on from the last state of a folder."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from discffusion import _native
from discffusion.errors import ConfigError, DeltasError, OutputError
from discffusion.training.folder import Folder
from discffusion.training.history import History

if TYPE_CHECKING:
    from discffusion import _core

__all__ = ["ResumedState", "pack", "resume"]

_VERSION = 1


@dataclass(frozen=True)
class ResumedState:
    """What a state says beside what the core keeps in it."""

    settings: dict[str, Any]
    validations: list[dict[str, Any]]
    best: _core.Deltas | None


def pack(settings: Mapping[str, Any], position: Mapping[str, int], validations: list[dict[str, Any]]) -> str:
    """What the core is to keep in a state: settings, position, and the validations that best deltas are known by."""
    return json.dumps(
        {"version": _VERSION, "settings": settings, "position": position, "validations": validations}
    )


def resume(
    folder: Folder,
    core: _core.Trainer,
    scorer: _core.Scorer,
    settings: Mapping[str, Any],
    starts: Callable[[], set[str]],
) -> ResumedState | None:
    """Loads the last state that can be read into `core`; None if there are no states.

    Args:
        settings: what the run is now; a state of another one is an error.
        starts: digests of the deltas that the run may have started from.

    Raises:
        DeltasError: no state can be read.
        ConfigError: the state is of another run.
    """
    problems: list[str] = []
    for step in folder.states():
        path = folder.state(step)
        try:
            state = _load(folder, step, core, scorer)
        except DeltasError as error:
            problems.append(str(error))
            continue
        except ConfigError as error:
            raise OutputError(f"{error} (resume=False starts over)") from None
        if problems:
            warnings.warn(
                f"going on from {str(path)!r}, since what is later cannot be read ({'; '.join(problems)})",
                stacklevel=2,
            )
        start = state.settings.get("start_deltas")
        present = {**settings, "start_deltas": start if start in starts() else "others"}
        present["training"] = _begun(state.settings.get("training"), settings["training"])
        differences = list(_differences(state.settings, present))
        if differences:
            raise OutputError(
                f"the run in {str(folder.path)!r} is another: {', '.join(differences)}; give another checkpoint_dir, "
                "or start over with resume=False"
            )
        return state
    if problems:
        raise DeltasError(
            f"no state in {str(folder.path)!r} can be read ({'; '.join(problems)}); delete the folder, or pass "
            "resume=False, to start over"
        )
    return None


def _load(folder: Folder, step: int, core: _core.Trainer, scorer: _core.Scorer) -> ResumedState:
    path = folder.state(step)
    extra = core.load(str(path))
    try:
        content = json.loads(extra)
        version, settings, validations = content["version"], content["settings"], content["validations"]
    except (ValueError, TypeError, KeyError):
        raise DeltasError(f"{path}: is not a training state") from None
    if version != _VERSION:
        raise DeltasError(f"{path}: has the version {version!r}; this release reads {_VERSION}")
    if core.steps != step:
        raise DeltasError(f"{path}: is the state after {core.steps} steps")
    best = History(validations).best
    deltas = None
    if best is not None:
        deltas = _native.core().Deltas.load(str(folder.best(best["step"])), scorer, True)
    return ResumedState(settings, validations, deltas)


def _begun(was: Any, now: dict[str, Any]) -> dict[str, Any]:
    """The training options, but that ``"auto"`` goes on with ``timesteps="config"``, the former default."""
    old = isinstance(was, dict) and was.get("timesteps") == "config" and now["timesteps"] == "auto"
    return {**now, "timesteps": "config"} if old else now


def _differences(was: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*was, *now]):
            yield from _differences(was.get(key), now.get(key), f"{name} {key}".strip())
    elif was != now:
        yield f"{name} was {json.dumps(was)} and is {json.dumps(now)}"
