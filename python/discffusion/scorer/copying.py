"""How a :class:`~discffusion.scorer.Scorer` is copied and pickled: copies share the weights, pickles name the model."""

from __future__ import annotations

import copyreg
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from discffusion import _native
from discffusion.deltas import Deltas
from discffusion.errors import CheckpointError, CopyError
from discffusion.hub import POCKET

if TYPE_CHECKING:
    from discffusion import _core
    from discffusion.calibration import Calibration
    from discffusion.scorer.model import LoadedModel

__all__ = ["OWN", "State", "forget", "reduce", "refuse_parts", "source"]

#: Attributes of a Scorer that :func:`reduce` knows; any other is pickled and copied as it is.
OWN = frozenset(
    {"_state", "_config", "_model_id", "_source", "_info", "_identity", "_revision", "_unfamiliar"}
)

_HELD = "it holds parts of a model in memory"
_REMEDIES = {
    "Scorer": "pickle the discffusion.Scorer that it belongs to",
    "Deltas": "hand over the file that save(path) writes and Deltas.load(path, scorer) reads, or the Scorer that has "
    "them loaded",
    "Trainer": "make it where it is used: Trainer(Scorer(…), …). Hand over what it learned by save(path) and "
    "scorer.load_deltas(path), and its whole state by checkpoint_dir=",
    "Prepared": "hand over the images and texts, and prepare them where they are scored",
    "Tokenizer": "open it again where it is used",
}


class State(NamedTuple):
    """The model that a Scorer asks, and what it was told of: deltas, a calibration. They are replaced together."""

    core: _core.Scorer | None = None
    deltas: Deltas | None = None
    merge: bool | None = None
    calibration: Calibration | None = None


def source(folder: Path, model_id: str, **given: Any) -> dict[str, Any]:
    """The arguments of the constructor that open the model in `folder` again, wherever the process then is."""
    token = given.pop("token", None)
    cache_dir = given.pop("cache_dir", None)
    arguments = {
        **given,
        "model": str(folder.absolute()),
        "cache_dir": None if cache_dir is None else str(Path(cache_dir).expanduser().absolute()),
        "token": token if isinstance(token, bool) else None,  # a secret is not for files
    }
    if model_id == POCKET:
        arguments["model"] = None
    elif _is_snapshot(folder) and not Path(model_id).expanduser().is_dir():
        arguments |= {"model": model_id, "revision": folder.name}
    return arguments


def _is_snapshot(folder: Path) -> bool:
    """Whether it is one commit in the hub's cache."""
    return folder.parent.name == "snapshots" and re.fullmatch("[0-9a-f]{40}", folder.name) is not None


def reduce(scorer: LoadedModel, opener: type[LoadedModel]) -> tuple[Any, ...]:
    """See :meth:`LoadedModel.__reduce__`.

    Args:
        opener: the class that opens the model again; that of `scorer` may be a user's, with other arguments.
    """
    core, deltas, merge, calibration = scorer._state
    if core is None:
        raise CopyError(f"this Scorer of {scorer.model_id!r} is closed and cannot be pickled; make a new one")
    about = {
        "opener": opener,
        "source": dict(scorer._source),
        "model_id": scorer.model_id,
        "device": scorer.device,
        "dtype": scorer.dtype,
        "fingerprint": scorer.info()["fingerprint"],
        "config": scorer.config.to_dict(),
        "deltas": None if deltas is None else _as_bytes(deltas),
        "merge": merge,
        "calibration": calibration,
    }
    more = {name: value for name, value in scorer.__dict__.items() if name not in OWN}
    return _restore, (type(scorer), about, more)


def _restore(kind: type[LoadedModel], about: dict[str, Any], more: dict[str, Any]) -> LoadedModel:
    base = _opened(about)
    scorer = object.__new__(kind)
    scorer.__dict__.update(base.__dict__)
    scorer._model_id = about["model_id"]
    if about["deltas"] is not None:
        scorer._adopt(_from_bytes(about["deltas"], base), about["merge"])
    if about["calibration"] is not None:
        scorer._weigh(about["calibration"])
    scorer._config = _native.core().ScoreConfig.from_dict(about["config"])
    scorer.__dict__.update(more)
    return scorer


# the model that was opened last for a pickle: a pool of processes reads one for every task
_last: list[tuple[Any, LoadedModel]] = []
_lock = threading.Lock()


def _opened(about: dict[str, Any]) -> LoadedModel:
    key = {name: about[name] for name in ("source", "device", "dtype", "fingerprint")}
    with _lock:
        if not _last or _last[0][0] != key:
            base = about["opener"](**about["source"], device=about["device"], dtype=about["dtype"])
            if base.info()["fingerprint"] != about["fingerprint"]:
                raise CheckpointError(
                    f"the pickle belongs to a Scorer of another model than the one now at {about['model_id']!r}; make "
                    "a new Scorer"
                )
            _last[:] = [(key, base)]
        return _last[0][1]


def forget(scorer: LoadedModel) -> None:
    """Lets go of the model that `scorer` was read with, if this module still holds it."""
    with _lock:
        if _last and _last[0][1]._source is scorer._source:
            _last.clear()


def _as_bytes(deltas: Deltas) -> bytes:
    with tempfile.TemporaryDirectory(prefix="discffusion-") as folder:
        file = Path(folder, "deltas.safetensors")
        deltas.save(file)
        return file.read_bytes()


def _from_bytes(data: bytes, scorer: LoadedModel) -> Deltas:
    with tempfile.TemporaryDirectory(prefix="discffusion-") as folder:
        file = Path(folder, "deltas.safetensors")
        file.write_bytes(data)
        # whoever loaded them onto this model has been asked whether they fit
        return Deltas.load(file, scorer, strict=False)


def refuse_parts(core: Any) -> None:
    """Has pickling and copying of the core's own objects end in a CopyError that says what to do instead."""
    for name, kind in vars(core).items():
        if isinstance(kind, type) and "__reduce__" not in vars(kind) and kind not in copyreg.dispatch_table:
            copyreg.pickle(kind, _refusal(name))


def _refusal(name: str) -> Callable[[Any], NoReturn]:
    def refuse(_: Any) -> NoReturn:
        remedy = _REMEDIES.get(name, "make it where it is used")
        raise CopyError(f"{name} cannot be pickled or copied, since {_HELD}; {remedy}")

    return refuse
