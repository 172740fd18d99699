"""The shards that a caller names, each with the name of its results."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from discffusion.data.archives.tar import expand
from discffusion.errors import ConfigError, DatasetError
from discffusion.shards.places import file_system, is_remote

__all__ = ["KINDS", "Shard", "printable", "shards_in"]

#: the endings of shards
KINDS = (".tar", ".parquet", ".jsonl", ".ndjson")
_MAGIC = frozenset("*?[")


class Shard(NamedTuple):
    """A shard: its name in rows, and where it is."""

    name: str
    address: str

    @property
    def output(self) -> str:
        """The file of its rows."""
        return str(PurePosixPath(self.name).with_suffix(".parquet"))

    @property
    def failed(self) -> str:
        """The file that says why it has no rows."""
        return str(PurePosixPath(self.name).with_suffix(".failed.json"))


def shards_in(inputs: Any) -> list[Shard]:
    """The shards that `inputs` stands for, in an order that is the same for every worker.

    Args:
        inputs: a file (``.tar``, ``.parquet``, ``.jsonl``), a folder of such, a pattern (``{00000..00012}``, ``*``),
            each here or at an address that fsspec knows, or a list of those. In a folder or a pattern, the tables that
            img2dataset writes beside its tars are no shards.

    Raises:
        ConfigError: it is nothing of the kind, or two shards would have the same results.
        DatasetError: there are no such files.
    """
    given = inputs if isinstance(inputs, list | tuple) else [inputs]
    wrong = [one for one in given if not isinstance(one, str | os.PathLike)]
    if wrong or not given:
        raise ConfigError(
            f"inputs is {inputs!r:.200}; expected a file, a folder, a pattern, an address, or a list"
        )
    addresses = [address for one in given for address in _addresses(str(os.fspath(one)))]
    shards = [
        Shard(printable(name), address) for name, address in zip(_names(addresses), addresses, strict=True)
    ]
    outputs: dict[str, Shard] = {}
    for shard in shards:
        if PurePosixPath(shard.name).suffix.lower() not in KINDS:
            raise DatasetError(f"{shard.address} is not a shard by its name; expected {', '.join(KINDS)}")
        other = outputs.setdefault(shard.output, shard)
        if other is not shard:
            raise ConfigError(
                f"{other.address} and {shard.address} would both have their rows in {shard.output}; score them into "
                "two folders"
            )
    return shards


def printable(text: str) -> str:
    """Text as UTF-8 can have it: names in archives and on disks may be any bytes."""
    return text.encode(errors="backslashreplace").decode()


def _addresses(text: str) -> list[str]:
    if is_remote(text):
        return _remote(text)
    plain = Path(text).expanduser()
    if plain.is_dir():
        addresses = _shards_among(str(path) for path in plain.iterdir() if path.is_file())
        if not addresses:
            raise DatasetError(f"the folder {text} holds no shards ({', '.join(KINDS)})")
        return addresses
    if plain.exists():
        return [str(plain)]
    names = [str(Path(name).expanduser()) for name in expand(text)]
    addresses = []
    for name in names:
        matching = [one for one in sorted(glob.glob(name)) if Path(one).is_file()]  # noqa: PTH207  # hidden files
        addresses.extend(_without_companions(matching) if _MAGIC & set(name) else [name])
    absent = [name for name in addresses if not Path(name).is_file()]
    if absent or not addresses:
        raise DatasetError(f"there are no shards {text!r}" + (f": {absent[0]} is missing" if absent else ""))
    return addresses


def _shards_among(files: Iterable[str]) -> list[str]:
    """The shards among the files of a folder."""
    return _without_companions(sorted(one for one in files if PurePosixPath(one).suffix.lower() in KINDS))


def _without_companions(files: Sequence[str]) -> list[str]:
    """Files but for what img2dataset writes beside each tar: ``00000.parquet`` of metadata and ``00000_stats.json``."""
    tars = {str(PurePosixPath(one).with_suffix("")) for one in files if one.lower().endswith(".tar")}
    beside = {f"{stem}{ending}" for stem in tars for ending in (".parquet", "_stats.json")}
    return [one for one in files if one not in beside]


def _remote(text: str) -> list[str]:
    addresses: list[str] = []
    for name in expand(text):
        system, path = file_system(name)
        try:
            if _MAGIC & set(path):
                matching = system.glob(path, detail=True)
                files = sorted(one for one, info in matching.items() if info.get("type") == "file")
                addresses.extend(system.unstrip_protocol(one) for one in _without_companions(files))
            elif system.isdir(path):
                inside = (one["name"] for one in system.ls(path, detail=True) if one["type"] == "file")
                addresses.extend(system.unstrip_protocol(one) for one in _shards_among(inside))
            else:
                addresses.append(name)
        except Exception as error:  # each file system has errors of its own
            raise DatasetError(f"{name} cannot be listed: {type(error).__name__}: {error}") from None
    if not addresses:
        raise DatasetError(f"there are no shards at {text!r}")
    return addresses


def _names(addresses: Sequence[str]) -> list[str]:
    """The last part of each; if two have the same, all from where they part."""
    last = [PurePosixPath(address.partition("?")[0]).name for address in addresses]
    if len(set(last)) == len(last):
        return last
    full = [address if is_remote(address) else str(Path(address).resolve()) for address in addresses]
    if len(set(full)) != len(full):
        twice = next(address for address in full if full.count(address) > 1)
        raise ConfigError(f"the shard {twice} is named twice")
    parts = [PurePosixPath(address).parts for address in full]
    same = 0
    while len({part[same] for part in parts}) == 1 and all(len(part) > same + 1 for part in parts):
        same += 1
    return ["/".join(part[same:]).replace("://", "/").lstrip("/") for part in parts]
