"""Things by name: this package's own, and those that other packages add. Each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module, metadata
from typing import Any, Generic, TypeVar

from discffusion import _native
from discffusion._warning import warn
from discffusion.errors import ConfigError, InstallationError

__all__ = ["Entry", "Registry"]

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """Where a thing is, and what it is.

    Attributes:
        target: ``"module:attribute"``.
        line: what it is, in one line; None where the thing itself has a ``line``.
        package: the distribution that adds it, with its version; None for this package's own.
    """

    target: str
    line: str | None = None
    package: str | None = None

    def load(self) -> Any:
        """Imports the module and takes the attribute, of which a dot leads to a further one."""
        module, _, attributes = self.target.partition(":")
        thing: Any = import_module(module)
        for attribute in attributes.split("."):
            thing = getattr(thing, attribute)
        return thing


class Registry(Mapping[str, T], Generic[T]):
    """Things of one kind by name. As a mapping, it raises ``KeyError``; :meth:`load` explains itself.

    Other packages add theirs by entry points. These are read once, when names are listed or one is asked for that this
    package does not have. A name of this package's own cannot be taken by another: that is warned of.

    Args:
        kind: what the things are called in messages, as ``"dataset"``.
        entries: this package's own, by name.
        group: of the entry points, as ``"discffusion.datasets"``; None where other packages cannot add any.
        error: class of the error for an unknown name.
        check: what is wrong with a thing that another package added under a name, or None.
        note: said behind the list of names.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, Entry],
        *,
        group: str | None = None,
        error: type[ConfigError] = ConfigError,
        check: Callable[[str, Any], str | None] = lambda name, thing: None,
        note: str = "",
    ) -> None:
        self.kind, self.own, self.group = kind, dict(entries), group
        self._error, self._check, self._note = error, check, note

    def load(self, name: Any) -> T:
        """The thing of this name.

        Raises:
            ConfigError: there is none; the message lists all, and names the nearest.
            InstallationError: another package added it, and it cannot be imported or is not of this kind.
        """
        entry = self.entry(name)
        if entry.package is None:
            own: T = entry.load()
            return own
        added = f"the {self.kind} {name!r} of the package {entry.package}"
        try:
            thing: T = entry.load()
        except Exception as error:
            raise InstallationError(
                f"{added} cannot be loaded: {entry.target}: {type(error).__name__}: {error}"
            ) from error
        wrong = self._check(name, thing)
        if wrong is not None:
            raise InstallationError(f"{added} is {wrong}")
        return thing

    def entry(self, name: Any) -> Entry:
        """Where the thing of this name is.

        Raises:
            ConfigError: there is none, or several packages add it.
        """
        if isinstance(name, str) and name in self.own:
            return self.own[name]
        candidates = self._added.get(name, []) if isinstance(name, str) else []
        if not candidates:
            hint, names = _native.core().did_you_mean(str(name), list(self)), ", ".join(self)
            raise self._error(f"unknown {self.kind} {name!r}{hint}; there are: {names}{self._note}")
        if len(candidates) > 1:
            packages = " and ".join(str(entry.package) for entry in candidates)
            raise self._error(
                f"the {self.kind} {name!r} is in several packages: {packages}; uninstall all but one"
            )
        return candidates[0]

    def describe(self) -> dict[str, str]:
        """A line about each, by name. No other package is imported for it."""
        return {name: self._line(name) for name in self}

    def _line(self, name: str) -> str:
        entry = self.own.get(name)
        if entry is None:
            return "from the package " + " and ".join(str(added.package) for added in self._added[name])
        line: str = entry.load().line if entry.line is None else entry.line
        return line

    @cached_property
    def _added(self) -> dict[str, list[Entry]]:
        """What other packages add; several may add the same name."""
        added: dict[str, list[Entry]] = {}
        points = metadata.entry_points(group=self.group) if self.group else ()
        for point in sorted(points, key=lambda point: point.name):
            package = f"{point.dist.name} {point.dist.version}" if point.dist else "of an unknown name"
            if point.name in self.own:
                warn(
                    f"the package {package} adds a {self.kind} {point.name!r}, which discffusion has itself; it is "
                    "left out"
                )
            else:
                added.setdefault(point.name, []).append(Entry(point.value, package=package))
        return added

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise KeyError(name)
        return self.load(name)

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._added

    def __iter__(self) -> Iterator[str]:
        """This package's own in the order in which they were given, then those of others."""
        yield from self.own
        yield from self._added

    def __len__(self) -> int:
        return len(self.own) + len(self._added)
