"""Serves the page until it is told to stop."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

from discffusion._extras import need
from discffusion.demo.hosts import KnownHosts
from discffusion.demo.service import DemoService
from discffusion.errors import DiscffusionError

__all__ = ["serve"]

#: nothing is told to anybody, and no newer version is asked for
_QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}


def serve(
    service: DemoService,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    preset: str = "default",
    deltas: str = DemoService.PLAIN,
    ready: Callable[[str], None] = lambda url: None,
    stop: Event | None = None,
) -> None:
    """Serves the page until `stop` is set, or Ctrl-C. Images that visitors send are removed at the end.

    Args:
        host: the address to listen at; others than this machine can reach the page if it is not 127.0.0.1. Requests
            that name another host than this one or this machine are refused.
        port: 0 for any that is free.
        preset, deltas: what is chosen at first.
        ready: is told the page's address when it can be asked for.

    Raises:
        DiscffusionError: the address cannot be used.
        InstallationError: gradio or matplotlib is not installed.
    """
    port = _free(host, port)
    stop = stop or Event()
    with tempfile.TemporaryDirectory(prefix="discffusion-demo-") as folder, _environment(folder):
        need("matplotlib.figure", "demo")
        need("gradio", "demo")
        from starlette.middleware import Middleware

        from discffusion.demo.page import page, theme

        blocks = page(service, preset, deltas)
        try:
            _, url, _ = blocks.launch(
                server_name=host,
                server_port=port,
                share=False,
                inbrowser=False,
                quiet=True,
                prevent_thread_lock=True,
                show_error=False,
                max_file_size=service.limits.bytes,
                footer_links=[],
                enable_monitoring=False,
                mcp_server=False,
                pwa=False,
                ssr_mode=False,
                theme=theme(),
                app_kwargs={"middleware": [Middleware(KnownHosts, host=host)]},
            )
            ready(url.rstrip("/"))
            stop.wait()
        except KeyboardInterrupt:
            pass  # this is how the page is closed
        finally:
            blocks.close(verbose=False)


def _free(host: str, port: int) -> int:
    """The port, or any that is free for 0."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        reason = error.strerror or str(error)
        raise DiscffusionError(
            f"the page cannot be served at {host}, port {port}: {reason}; choose others with --host and --port"
        ) from None


@contextmanager
def _environment(folder: str) -> Iterator[None]:
    """What Gradio reads from the environment, while the page is served."""
    wanted = {**_QUIET, "GRADIO_TEMP_DIR": folder}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
