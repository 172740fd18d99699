"""Which names the demo answers to."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from discffusion.demo.hosts import KnownHosts


async def nothing(*_: Any) -> None:
    raise AssertionError("the page was reached")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "localhost."])
@pytest.mark.parametrize("port", ["", ":7860"])
def test_this_machine(host: str, port: str) -> None:
    assert KnownHosts(nothing, "127.0.0.1").knows(host + port)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example", "", "192.0.2.7",
        "[::1]evil.example", "[2001:db8::1]", "::1", "evil.example@localhost",
    ],
)  # fmt: skip
def test_any_other(host: str) -> None:
    assert not KnownHosts(nothing, "127.0.0.1").knows(host)


@pytest.mark.parametrize(
    ("host", "asked"),
    [("192.0.2.7", "192.0.2.7:80"), ("Demo.example", "demo.example"), ("::1", "[::1]:7860")],
)
def test_the_host_that_was_asked_for(host: str, asked: str) -> None:
    assert KnownHosts(nothing, host).knows(asked)
    assert not KnownHosts(nothing, host).knows("evil.example")


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_every_address(host: str) -> None:
    served = KnownHosts(nothing, host)
    for known in ("192.0.2.7:7860", "[2001:db8::1]:7860", socket.gethostname(), "localhost"):
        assert served.knows(known)
    assert not served.knows("evil.example")


def answers(kind: str, headers: list[tuple[bytes, bytes]]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(KnownHosts(nothing, "127.0.0.1")({"type": kind, "headers": headers}, nothing, send))
    return sent


@pytest.mark.parametrize(
    "headers",
    [[], [(b"host", b"evil.example")], [(b"host", b"localhost"), (b"host", b"evil.example")]],
    ids=["none", "another", "two"],
)
def test_what_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    start, body = answers("http", headers)
    assert (start["status"], start["type"]) == (403, "http.response.start")
    assert int(dict(start["headers"])[b"content-length"]) == len(body["body"])
    assert answers("websocket", headers) == [{"type": "websocket.close", "code": 1008}]
