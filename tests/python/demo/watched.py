"""The command line with every address that this process asks for noted in a file: python watched.py FILE ARGUMENT..."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from discffusion.cli import main

NOTES = Path(sys.argv.pop(1))


def note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(
        arguments[1], tuple
    ):  # else a socket of this machine's file system
        host = arguments[1][0]
    else:
        return
    with NOTES.open("a") as file:
        file.write(f"{host if isinstance(host, str) else (host or b'').decode()}\n")


signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts deaf to it
sys.addaudithook(note)
main()
