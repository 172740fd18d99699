"""Which names the page answers to: a page of somewhere else that was resolved to this machine is not one of them."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["KnownHosts"]

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_EVERY = ("0.0.0.0", "::", "0", "")  # noqa: S104  # compared with, not listened at

_Message = MutableMapping[str, Any]
_App = Callable[[_Message, Callable[..., Awaitable[Any]], Callable[..., Awaitable[Any]]], Awaitable[None]]


class KnownHosts:
    """ASGI middleware that refuses requests whose ``Host`` is neither this machine's own nor what is served at.

    A foreign page whose name is made to resolve to 127.0.0.1 (DNS rebinding) could otherwise use the demo from a
    visitor's browser, which sends that name as ``Host``.

    Args:
        app: what answers.
        host: the address that is served at. Where that is every address, so are all of this machine by number, which
            no foreign page can have as its name, and its own names.
    """

    def __init__(self, app: _App, host: str) -> None:
        self._app, self._served = app, host.strip("[]").lower()
        self._known = _LOCAL | {self._served}
        self._every = self._served in _EVERY
        if self._every:
            self._known |= {socket.gethostname().lower()}

    async def __call__(self, scope: _Message, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket") or self._knows(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            body = b"this page is served to this machine only; open it by the address that discffusion demo printed"
            headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _knows(self, scope: _Message) -> bool:
        given = [value for name, value in scope["headers"] if name.lower() == b"host"]
        return len(given) == 1 and self.knows(given[0].decode("latin-1"))

    def knows(self, header: str) -> bool:
        """Whether a ``Host`` header, which may have a port, names this server."""
        name = _without_port(header.strip().lower())
        return name in self._known or (self._every and _is_address(name))


def _without_port(header: str) -> str:
    if header.startswith("["):
        name, bracket, port = header[1:].partition("]")
        return name if bracket and (not port or port.startswith(":")) else header
    return header.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
